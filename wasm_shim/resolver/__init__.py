"""The image resolver: a resident process that asks containerd for the program of a container's image."""
