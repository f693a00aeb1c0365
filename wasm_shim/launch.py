"""The command line that starts one of our own Python processes, with as little start-up as possible."""

import sys


def python_command(module: str, *arguments: str) -> list[str]:
    """argv for `main()` of a module of ours: same interpreter and packages, but no `site`, no user paths.

    Isolated (-I) and without site (-S): 20 ms earlier, and nothing in the caller's environment or directory
    can inject code.
    """
    paths = [path for path in sys.path if path]
    start = f"import sys; sys.path[:] = {paths!r}; from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", start, *arguments]
