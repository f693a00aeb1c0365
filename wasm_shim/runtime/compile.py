"""Get the compiled form of a program: from the cache, or by a compiler process.

`Compilation` never blocks, for the pod shim's loop; `compile_now` waits, for the command line and Python.
"""

import json
import os
import signal
from typing import Any

from wasm_shim.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable, WasmShimError
from wasm_shim.launch import start
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest
from wasm_shim.runtime.program import Program
from wasm_shim.runtime.source import open_program
from wasm_shim.steps import VARIABLE, held_at

_MODULE = "wasm_shim.runtime.compiler"
# libwasmtime's C API panics when it is asked for the type of such an export.
_ABORTED = (
    "it exports a function with vectors (v128) or references of the garbage-collection or exception proposals,"
    " which this version cannot describe; export functions of numbers only"
)


class Compilation:
    """A compiler process at work on one program; wait for `pidfd` to be readable, then call `result`."""

    def __init__(self, cache: ProgramCache, key: str, source: int, name: str) -> None:
        """Start compiling the open file `source`, whose sha256 is `key`; `name` is for messages.

        Raises the errors of ProgramCache. `source` stays the caller's.
        """
        self._cache, self._key, self._name = cache, key, name
        self._open = [cache.lock()]
        try:
            self._open.append(cache.unnamed())
            self._open.append(os.memfd_create("report", os.MFD_CLOEXEC))
            self._lock, self._code, self._report = self._open
            descriptors = (source, self._code, self._report, self._lock)
            self.pid = start(_MODULE, [cache.path(key)], descriptors, {VARIABLE: held_at()})
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            self._close()
            raise ResourceExhausted(f"cannot start the compiler: {error.strerror}; try again") from error
        except WasmShimError:
            self._close()
            raise
        self._open.append(self.pidfd)

    def result(self) -> Compiled:
        """Reap the ended process and file its work; call once.

        Raises InvalidArgument with the reason for a program that cannot be compiled, Unavailable when the
        compiler was killed, and the errors of ProgramCache.
        """
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            report = os.pread(self._report, os.fstat(self._report).st_size, 0)  # what it wrote to stderr, if it died
            if status == -signal.SIGABRT and b"is not implemented" in report:
                raise InvalidArgument(f"cannot run {self._name}: {_ABORTED}")
            if status != 0:
                how = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
                raise Unavailable(f"the compiler {how} while it compiled {self._name}; run it again")
            return self._file(json.loads(report))
        except ValueError as error:
            raise Internal(f"the compiler's report on {self._name} is damaged: {error}; run it again") from error
        finally:
            self._close()

    def cancel(self) -> None:
        """Kill the process and leave nothing of its work; instead of `result`."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            self.result()  # it may have been faster
        except WasmShimError:
            pass

    def _close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def _file(self, report: dict[str, Any]) -> Compiled:
        if "errno" in report:
            raise self._cache.failure(OSError(report["errno"], os.strerror(report["errno"])))
        if "error" in report:
            raise InvalidArgument(f"cannot run {self._name}: {report['error']}")
        if "program" in report:
            return self._cache.publish(self._key, Program.from_json(report["program"].encode()), self._code)
        compiled = self._cache.lookup(self._key)
        if compiled is None:
            raise Unavailable(f"the compiled form of {self._name} vanished from the cache; run it again")
        return compiled


def compile_now(cache: ProgramCache, path: str) -> Compiled:
    """The compiled form of the program in a file, compiling it where the cache has none; waits for it.

    Raises the errors of `open_program` and `Compilation`.
    """
    source = open_program(path)
    try:
        key = digest(source)
        compiled = cache.lookup(key)
        if compiled is not None:
            return compiled
        compilation = Compilation(cache, key, source, path)
        os.waitid(os.P_PIDFD, compilation.pidfd, os.WEXITED | os.WNOWAIT)
        return compilation.result()
    finally:
        os.close(source)
