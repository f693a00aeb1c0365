"""Linux system calls that Python's `os` lacks, seccomp and Landlock: no policy, no knowledge of guests."""
