"""What the command line says, and the exit codes with which it ends; the only place that prints."""

import os
import sys
from typing import Final

from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound, WasmShimError

OURS: Final = 125  # exit codes as Docker has them: our own error,
CANNOT_RUN: Final = 126  # a program that cannot be run,
NOT_THERE: Final = 127  # one that is not there; else the guest's
_PROGRAMS: Final = (InvalidArgument, FailedPrecondition)  # damaged, or in need of what no host interface provides


class Refusal(Exception):
    """An error with the exit code that belongs to it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def refusal_of_program(error: WasmShimError) -> Refusal:
    """The refusal for an error that concerns the program itself."""
    code = NOT_THERE if isinstance(error, NotFound) else CANNOT_RUN if isinstance(error, _PROGRAMS) else OURS
    return Refusal(code, error.message)


def say(text: str) -> None:
    """One line on stdout; raises Refusal where there is no room for it."""
    try:
        print(_harmless(text), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)  # the rest in the buffer would fail again at exit
        raise Refusal(OURS, f"cannot write to stdout: {error.strerror}; make room and run it again") from error


def complain(text: str) -> None:
    """One line on stderr, marked as ours; a stderr that is closed is no error."""
    try:
        print(f"wasm-shim: {_harmless(' '.join(text.split()))}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return


def _harmless(text: str) -> str:
    """Without control characters: names in a program are its author's, and terminals obey such characters."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def table(rows: list[tuple[str, ...]]) -> None:
    """Columns that line up, the first row being their titles."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
