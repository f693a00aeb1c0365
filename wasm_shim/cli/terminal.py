"""The caller's terminal: raw while a guest with a terminal of its own runs, and its size."""

import os


class RawTerminal:
    """Every key goes to the guest as it is, until `restore`."""

    def __init__(self, wanted: bool) -> None:  # noqa: FBT001 - one switch, named by its only caller
        self._saved = None
        if wanted:
            import termios
            import tty  # loaded for -t only

            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)

    def restore(self) -> None:
        """Back to what it was; idempotent."""
        if self._saved is not None:
            import termios

            saved, self._saved = self._saved, None
            try:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
            except termios.error:
                return  # it has hung up


def window_size() -> tuple[int, int]:
    """(columns, rows) of the terminal on stdout, (0, 0) where it is none."""
    try:
        return tuple(os.get_terminal_size(1))  # type: ignore[return-value] # a named pair
    except OSError:
        return 0, 0
