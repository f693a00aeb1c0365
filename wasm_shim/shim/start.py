"""The long way of containerd-shim-wasm-v1, for what its script cannot do: no zygote, `-v`, `-info`, wrong usage.

Run by the script as `python -Im wasm_shim.shim.start ZYGOTE HOW WORDS…`: the path of the zygote's socket; `ask`, or
`lost` when a child of the zygote was killed after it began to read standard input; and the script's own words.
"""

import os
import sys
from collections.abc import Sequence

from wasm_shim.errors import InvalidArgument, Unavailable, WasmShimError
from wasm_shim.paths import ShimPaths, shim_paths
from wasm_shim.runtime.binding import wasmtime_version
from wasm_shim.shim import address
from wasm_shim.shim.bootstrap import RuntimeInfo, RuntimeVersion
from wasm_shim.shim.delete import delete
from wasm_shim.shim.flags import Command, bundle_of, check, parse, variables
from wasm_shim.spawn import CommandRequest
from wasm_shim.version import VERSION
from wasm_shim.zygote.client import run_command

_PROGRAM = "containerd-shim-wasm-v1"
_NAME = "io.containerd.wasm.v1"
_USAGE = f"usage: {_PROGRAM} -namespace NAMESPACE -id ID -address ADDRESS start|delete, -v or -info"
_LOST = "the pod shim was killed while it started; look for what kills processes of root, and start it again"


def main() -> None:
    """Run the command of this process's arguments and exit."""
    for descriptor in range(3):  # the number of one that is closed must not become another file's
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    try:
        output = _run(sys.argv[1], sys.argv[2] == "lost", sys.argv[3:])
        while output:
            output = output[os.write(1, output) :]
        code = 0
    except (WasmShimError, OSError) as error:
        # containerd puts it into a sentence of its own
        os.write(2, f"{error}{chr(10) if os.isatty(2) else ''}".encode(errors="surrogateescape"))
        code = 1
    except KeyboardInterrupt:
        code = 130
    os._exit(code)


def _run(zygote: str, lost: bool, words: Sequence[str]) -> bytes:  # noqa: FBT001
    command = parse(words)
    if command.version:
        python = ".".join(map(str, sys.version_info[:3]))
        return f"{_PROGRAM}:\n  Version:  {VERSION}\n  Python:   {python}\n  wasmtime: {wasmtime_version()}\n".encode()
    if command.info:
        return RuntimeInfo(name=_NAME, version=RuntimeVersion(version=VERSION)).encode()
    if command.action not in ("start", "delete"):
        raise InvalidArgument(_USAGE)
    paths = shim_paths(os.environ)
    request = CommandRequest(tuple(words), _directory(), variables(os.environ))
    if command.action == "delete":
        check(command)
        bundle = bundle_of(command, request.directory)
        return delete(command.namespace, command.id, command.address, bundle, request.environment)
    output = None if lost else run_command(zygote, request, 0)
    if output is None:
        _clear(command, request, paths)
        raise Unavailable(_LOST)
    return output


def _clear(command: Command, request: CommandRequest, paths: ShimPaths) -> None:
    """Remove the socket that the killed one may have made and told nobody."""
    check(command)
    group = address.pod_of(address.read_config(bundle_of(command, request.directory))) or command.id
    address.remove_dead(paths.root, address.socket_path(paths, command.address, command.namespace, group))


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed meanwhile, and with it whatever it told
        return "/"


if __name__ == "__main__":
    main()
