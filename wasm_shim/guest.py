"""What a guest is and what it may see: plain values that every layer shares.

These are named tuples, not dataclasses: a process that is forked per pod loads this module, and
`dataclasses` brings `inspect` and its 600 KiB along.
"""

from typing import NamedTuple


class Mount(NamedTuple):
    """A bind mount: `source` on the host appears at `target` inside the guest's tree."""

    source: str
    target: str
    read_only: bool


class Tmpfs(NamedTuple):
    """An empty file system in memory at `target`; `options` are those of tmpfs(5) and mount(8)."""

    target: str
    options: tuple[str, ...]


class Preopen(NamedTuple):
    """A directory that the guest may open: `path` as its process sees it, `name` as the guest does.

    One that is optional is left out where the guest's user may not open it.
    """

    path: str
    name: str
    writable: bool
    optional: bool = False


class Image(NamedTuple):
    """The one program of the container's image: `path` on the host, `entrypoint` as arguments name it.

    Both are empty where the program is a file of the container's root file system.
    """

    path: str
    entrypoint: str


class Guest(NamedTuple):
    """One Wasm program with its grants; everything that is not listed is denied.

    `call` is the text of an exported function's call, such as `add(27, 6)`; empty runs the command.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    preopens: tuple[Preopen, ...]
    call: str
    terminal: bool
