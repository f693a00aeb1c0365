"""The door: find the verb, parse it the quick way or the full one, run it, end with its exit code."""

import os
import signal
import sys
from typing import Any

from wasm_shim.cli.options import VERBS, Verb
from wasm_shim.cli.output import OURS, Refusal, complain
from wasm_shim.errors import WasmShimError


def main() -> None:
    """Run the command line of this process and exit."""
    _open_stdio()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a caller that ignores it would keep us from waiting for children
    try:
        code = _dispatch(sys.argv[1:])
    except Refusal as refusal:
        complain(str(refusal))
        code = refusal.code
    except WasmShimError as error:
        complain(error.message)
        code = OURS
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        code = 141
    except OSError as error:
        complain(f"{error.strerror}{f': {error.filename}' if error.filename else ''}; mend that and run it again")
        code = OURS
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _open_stdio() -> None:
    """A caller may have closed 0, 1 or 2: no other file may get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def _dispatch(words: list[str]) -> int:
    if words == ["--version"]:
        words = ["version"]
    verb = next((verb for verb in VERBS if words and verb.name == words[0] and verb.quick), None)
    if verb:
        from wasm_shim.cli.quick import HelpWanted, parse

        try:
            return _invoke(verb, parse(verb, words[1:]))
        except HelpWanted:
            words = [verb.name, "--help"]
    from oci.errors import OciError  # quick verbs do without
    from wasm_shim.cli import full

    try:
        return full.main(words, _invoke)
    except OciError as error:
        raise Refusal(OURS, str(error)) from error


def _invoke(verb: Verb, values: dict[str, Any]) -> int:
    """Call the verb's function, importing its module only now."""
    import importlib

    module, _, function = verb.entry.partition(":")
    code: int = getattr(importlib.import_module(f"wasm_shim.cli.{module}"), function)(values)
    return code
