"""A pod shim of containerd's in a process of its own: python -m … ADDRESS CONTAINERD PROGRAMS BUNDLE [SECONDS]."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from wasm_shim.container.forge import make_forge
from wasm_shim.shim.pod import ContainerdPod, serve_pod

DESCRIPTORS = Path("/proc/self/fd")


def main() -> None:
    """Serve until a client shuts it down; tells on standard output that it listens, and what is left at the end.

    SECONDS is how long it waits for a first client.
    """
    address, containerd, programs, bundle = sys.argv[1:5]
    forge = make_forge()
    before = {path.name for path in DESCRIPTORS.iterdir()}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    os.write(1, b"listening\n")
    pod = ContainerdPod("k8s.io", "one", address, containerd, programs, bundle, None, *map(float, sys.argv[5:]))
    serve_pod(forge, listener, pod)
    left = {path.name for path in DESCRIPTORS.iterdir()} - before
    os.write(1, f"left {len(left)} descriptors\n".encode())


if __name__ == "__main__":
    main()
