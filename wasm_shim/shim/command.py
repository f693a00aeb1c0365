"""The commands that containerd runs, carried out in a forked child of the zygote: `start`, which becomes the pod shim,
and `delete`. Source of flags and answers: containerd's docs/runtime-v2.md and pkg/shim.
"""

import os
import resource
import socket
from collections.abc import Sequence
from typing import Final

from wasm_shim.container.cradle import Cradle
from wasm_shim.container.forge import Forge
from wasm_shim.errors import InvalidArgument, Unimplemented
from wasm_shim.kernel.calls import close_descriptors_except, peer_of
from wasm_shim.paths import ShimPaths, open_private, remove_file, shim_paths
from wasm_shim.resolver.client import Containerd, resolver_path
from wasm_shim.resolver.messages import IDLE
from wasm_shim.shim import address
from wasm_shim.shim.bootstrap import BootstrapParams, Form, encode_result, form_for, read_params
from wasm_shim.shim.delete import delete
from wasm_shim.shim.flags import Command, bundle_of, check, parse
from wasm_shim.shim.pod import ContainerdPod, serve_pod
from wasm_shim.shim.receipt import Receipt
from wasm_shim.spawn import BEGUN, CommandRequest, encode_output
from wasm_shim.steps import reached

_WHAT, _REMEDY = "runtime", "set WASM_SHIM_ROOT to a directory of your own"
_HIGHEST_SCORE: Final = 1000  # of oom_score_adj (proc(5))


def run(forge: Forge, request: CommandRequest, connection: socket.socket, stdin: Sequence[int]) -> None:
    """Carry out a command and answer; after a `start` that made a socket, serve it until the pod has gone.

    Raises WasmShimError or OSError, with nothing left behind, before an answer was given.
    """
    command = parse(request.arguments)
    if command.action == "delete":
        check(command)
        bundle = bundle_of(command, request.directory)
        output = delete(command.namespace, command.id, command.address, bundle, request.environment)
        connection.sendall(encode_output(output))
    elif command.action == "start":
        _start(forge, command, request, connection, stdin)
    else:
        raise InvalidArgument(f"there is no command {command.action!r}; containerd uses start and delete")


def _start(
    forge: Forge, command: Command, request: CommandRequest, connection: socket.socket, stdin: Sequence[int]
) -> None:
    if request.environment.get("WASM_SHIM_TRANSPORT", "ttrpc") != "ttrpc":
        raise Unimplemented("WASM_SHIM_TRANSPORT names a transport that is not served yet; unset it for ttrpc")
    connection.sendall(BEGUN)
    params = read_params(stdin[0], command.id, command.namespace) if stdin else None
    if params is not None:
        command = _completed(command, params)
    check(command)
    paths = shim_paths(request.environment)
    bundle = bundle_of(command, request.directory)
    group = address.pod_of(address.read_config(bundle)) or command.id
    path = address.socket_path(paths, command.address, command.namespace, group)
    for directory in (paths.root, paths.sockets):
        os.close(open_private(directory, _WHAT, _REMEDY))
    form = Form.RESULT if params is not None else form_for(command.publish_binary, paths.root)
    listener = _claim(paths, path, bundle, connection, encode_output(encode_result(form, path)))
    if listener is not None:
        _settle(connection, listener, forge.cradle)
        reached("shim.answered")
        serve_pod(forge, listener, _pod(command, params, request, paths, path, bundle))


def _completed(command: Command, params: BootstrapParams) -> Command:
    """The flags, and where one is missing the parameter: containerd means to drop the flags one day."""
    return command._replace(
        namespace=command.namespace or params.namespace,
        id=command.id or params.instance_id,
        address=command.address or params.containerd_grpc_address,
    )


def _claim(paths: ShimPaths, path: str, bundle: str, connection: socket.socket, answer: bytes) -> socket.socket | None:
    """Listen, if nobody does, and answer, in one turn: of several that start one pod, one becomes its shim.

    A shim that is found may still be asked to leave before its new container is made, where no other container keeps
    it, as with runc's; a pod's pause container does.
    """
    with address.Turn(paths.root):
        Receipt(bundle, "").withdraw()
        listener = address.listen(path)
        try:
            if listener is not None:
                reached("shim.listening")
            _write_address(bundle, f"unix://{path}")
            connection.sendall(answer)
        except OSError:
            if listener is not None:
                remove_file(path)
                listener.close()
            raise
    return listener


def _write_address(bundle: str, text: str) -> None:
    """Leave the address in the bundle, where containerd 1.6 and 1.7 look for it after a restart; raises OSError."""
    if not os.path.exists(f"{bundle}/config.json"):
        return  # no bundle: somebody tries us by hand
    temporary = f"{bundle}/.address"
    try:
        with open(temporary, "wb") as file:
            file.write(os.fsencode(text))
        os.rename(temporary, f"{bundle}/address")
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _settle(connection: socket.socket, listener: socket.socket, cradle: Cradle) -> None:
    """End what still ties us to the client: a score for the out-of-memory killer beside its, and no descriptors.

    The nursery that was born with us gets the same limit and score.

    Session, working directory and environment are the zygote's, reset when it started and after the fork.
    """
    ours = [os.getpid(), *([cradle.pid] if cradle.pid else [])]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pid in ours:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))  # a pod may have many containers, with nine each
    os.umask(0o022)  # the zygote's is closer; from now on files are made for others, such as logs
    client, _ = peer_of(connection)
    try:
        with open(f"/proc/{client}/oom_score_adj", encoding="ascii") as file:
            score = int(file.read())  # inherited from containerd, which is to live longer than its shims
        for pid in ours:
            with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(min(score + 1, _HIGHEST_SCORE)))
    except OSError:
        pass  # the client has its answer and may have gone; or we may not lower ours (proc(5), CAP_SYS_RESOURCE)
    connection.close()
    close_descriptors_except({listener.fileno(), cradle.socket} - {-1})


def _pod(  # noqa: PLR0913 - all that is known at the start
    command: Command,
    params: BootstrapParams | None,
    request: CommandRequest,
    paths: ShimPaths,
    path: str,
    bundle: str,
) -> ContainerdPod:
    containerd = (params.containerd_ttrpc_address if params else "") or request.environment.get("TTRPC_ADDRESS", "")
    return ContainerdPod(
        namespace=command.namespace,
        id=command.id,
        address=path,
        containerd=containerd.removeprefix("unix://"),
        programs=paths.programs,
        bundle=bundle,
        images=_images(command, request, paths),
    )


def _images(command: Command, request: CommandRequest, paths: ShimPaths) -> Containerd:
    """Where to ask for images: at containerd's main socket, by whichever of two ways it says that."""
    main = (command.address or request.environment.get("GRPC_ADDRESS", "")).removeprefix("unix://")
    resolver = resolver_path(paths.root, main)
    return Containerd(main, command.namespace, resolver, request.environment.get(IDLE, ""))
