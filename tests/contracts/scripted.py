"""A store whose layers arrive as a test says, and which remembers what it was asked for."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from oci.descriptor import Descriptor
from oci.errors import Unavailable
from oci.media_types import WASM_LAYER
from oci.memory import MemoryStore

Delivery: TypeAlias = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    """All is well."""
    yield data


def breaks_after(size: int) -> Delivery:
    """The connection is lost after so many bytes of each answer that has more."""

    def deliver(data: bytes) -> Iterator[bytes]:
        yield data[:size]
        if len(data) > size:
            raise Unavailable("the connection is lost; try again")

    return deliver


class ScriptedStore(MemoryStore):
    """A delivery is given the bytes that were asked for, and yields what arrives instead."""

    def __init__(self, delivery: Delivery = whole) -> None:
        super().__init__()
        self.delivery = delivery
        self.reads: list[tuple[Descriptor, int]] = []
        self.writes: list[Descriptor] = []
        self.written_before_tag = 0

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        self.reads.append((descriptor, offset))
        data = b"".join(super().read(descriptor, offset))
        yield from self.delivery(data) if descriptor.media_type == WASM_LAYER else [data]

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        super().write(descriptor, chunks)
        self.writes.append(descriptor)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        super().tag(name, descriptor)
        self.written_before_tag = len(self.writes)

    def offsets(self, descriptor: Descriptor) -> list[int]:
        """From where a content was read, in order."""
        return [offset for what, offset in self.reads if what == descriptor]
