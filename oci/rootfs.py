"""The root file system that layers make when they are put on each other, as names only, in memory.

Nothing of an archive is ever created on the disk. Paths mean what they mean inside the image: absolute ones and `..`
end at its root, and symlinks are followed within it. Source: image-spec, layer.md, "Whiteouts" and "Applying
Changesets"; where that is silent, what containerd does.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from oci.errors import InvalidContent, UnsupportedArtifact, shown
from oci.tar import MAX_ENTRIES, MAX_PATH, Entry

__all__ = ["File", "Rootfs"]

_MAX_LINKS: Final = 40  # symlinks on the way to one file, as in Linux
_MAX_STEPS: Final = 10_000_000  # names looked up for one image; its files times their depth, and room for links
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_RESERVED: Final = ".wh..wh."


class File(NamedTuple):
    """A file's place: the number of the layer, and that of the entry in it."""

    layer: int
    entry: int


class _Link(NamedTuple):
    target: str


class _Special(NamedTuple):
    kind: str


_Directory: TypeAlias = "dict[str, _Node]"
_Node: TypeAlias = "_Directory | File | _Link | _Special"


class Rootfs:
    """What is where after the layers that were applied so far."""

    def __init__(self) -> None:
        self._root: _Directory = {}
        self._entries = 0
        self._steps = 0

    def apply(self, layer: int, entries: Iterable[Entry]) -> None:
        """Put a layer over what is there. Raises InvalidContent where one cannot be put."""
        added: list[tuple[int, Entry]] = []
        hidden: list[str] = []
        for number, entry in enumerate(entries):
            self._count_entry()
            name = entry.name.rstrip("/").rpartition("/")[2]
            if name.startswith(_WHITEOUT):
                hidden.append(entry.name)
            else:
                added.append((number, entry))
        for path in hidden:  # of the layers below only, wherever in this one they stand
            self._hide(path)
        for number, entry in added:
            self._add(entry, File(layer, number))

    def find(self, path: str) -> File | None:
        """The file at this path, None when there is nothing. Raises UnsupportedArtifact for anything but a file."""
        node = self._look_up(path)
        if node is None or isinstance(node, File):
            return node
        kind = node.kind if isinstance(node, _Special) else "directory"
        raise UnsupportedArtifact(f"{shown(path)} in the image is a {kind}; it must name the program's file")

    def files(self) -> Iterator[tuple[str, File]]:
        """All regular files that can be named, with their paths; symlinks are not followed."""
        stack = [("", iter(self._root.items()))]
        while stack:
            path, nodes = stack[-1]
            name, node = next(nodes, ("", None))
            if node is None:
                stack.pop()
            elif isinstance(node, File):
                yield f"{path}/{name}", node
            elif isinstance(node, dict) and len(path) < MAX_PATH:
                stack.append((f"{path}/{name}", iter(node.items())))

    def _hide(self, path: str) -> None:
        parent, name = self._parent(path, create=False)
        if parent is None:
            return
        if name == _OPAQUE:
            parent.clear()
        elif not name.startswith(_RESERVED):
            parent.pop(name.removeprefix(_WHITEOUT), None)

    def _add(self, entry: Entry, file: File) -> None:
        parent, name = self._parent(entry.name, create=True)
        if parent is None or not name:  # the root itself
            return
        match entry.kind:
            case "directory":
                if not isinstance(parent.get(name), dict):
                    parent[name] = {}
            case "file":
                parent[name] = file
            case "symlink":
                parent[name] = _Link(entry.link)
            case "hard link":
                parent[name] = self._linked(entry)
            case kind:
                parent[name] = _Special(kind)

    def _linked(self, entry: Entry) -> _Node:
        """What a hard link leads to; the link itself when that is a symlink, as link() does it."""
        parent, name = self._parent(entry.link, create=False)
        node = parent.get(name) if parent is not None else None
        if node is None or isinstance(node, dict):
            raise InvalidContent(
                f"the hard link {shown(entry.name)} of an image leads to no file; the image is damaged"
            )
        return node

    def _look_up(self, path: str) -> "_Directory | File | _Special | None":
        """What is at a path, symlinks followed."""
        for _ in range(_MAX_LINKS):
            parent, name = self._parent(path, create=False)
            node = None if parent is None else parent.get(name) if name else parent
            if not isinstance(node, _Link):
                return node
            path = (
                node.target if node.target.startswith("/") else f"{path.rstrip('/').rpartition('/')[0]}/{node.target}"
            )
        raise InvalidContent(f"too many symlinks at {shown(path)} in an image; they lead in a circle")

    def _parent(self, path: str, *, create: bool) -> "tuple[_Directory | None, str]":
        """The directory that holds the last name of a path, and that name; "" when the path ends in that directory.

        Without `create`, None where there is no such directory.
        """
        names, trail, links = self._names(path), [self._root], 0
        while names:
            name = names.pop()
            node = trail[-1].get(name)
            if name == "..":
                del trail[max(1, len(trail) - 1) :]
            elif not names:
                return trail[-1], name
            elif isinstance(node, dict):
                trail.append(node)
            elif isinstance(node, _Link) and links < _MAX_LINKS:
                links += 1
                names += self._names(node.target)
                del trail[1 if node.target.startswith("/") else len(trail) :]
            elif node is None and create:
                trail.append(self._made(trail[-1], name))
            elif create:
                raise InvalidContent(f"{shown(path)} in an image leads through what is no directory; it is damaged")
            else:
                return None, name
        return trail[-1], ""

    def _made(self, parent: _Directory, name: str) -> _Directory:
        self._count_entry()
        made: _Directory = {}
        parent[name] = made
        return made

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise InvalidContent(f"an image of more than {MAX_ENTRIES} files and directories; it is not read")

    def _names(self, path: str) -> list[str]:
        """The names of a path, the first one last."""
        names = path.split("/")
        self._steps += len(names)
        if self._steps > _MAX_STEPS:
            raise InvalidContent("the paths of an image are too entangled; it was made to do harm")
        return [name for name in reversed(names) if name not in {"", "."}]
