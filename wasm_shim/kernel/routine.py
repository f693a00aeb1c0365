"""Write down C calls for a process that carries them out without Python: see `machine`.

A routine is one block of memory: its steps and what they point to. It is written for the address at which the block
will lie, and may go to another process of the same fork family, where libraries have the same addresses.

Each call's result is judged by a check. A call that passes is followed by the next; one that does not is followed by
the step of a label, `otherwise` or the routine's own `on_failure`, which learns who sent it there: `Sender`.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from ctypes import c_void_p
from typing import Any, Final, NamedTuple

from wasm_shim.kernel.machine import STEP_SIZE, new_memory

_STEP: Final = struct.Struct("<16Q")
_ARGUMENTS: Final = 8
_RESULT_AT, _SENDER_AT = 72, 120  # in a step
_ALL: Final = (1 << 64) - 1
_ALIGNMENT: Final = 8

_libc = ctypes.CDLL(None)


class Check(NamedTuple):
    """A result passes if its masked bits are those wanted."""

    mask: int
    want: int


ANY: Final = Check(0, 0)
NEVER: Final = Check(0, 1)  # so the label follows, whatever came back
NOT_NEGATIVE: Final = Check(1 << 31, 0)  # an int or a small long; errno tells more
ZERO: Final = Check(_ALL, 0)  # an error pointer that is null
NO_ERROR_NUMBER: Final = Check(0xFFFFFFFF, 0)  # an int, as of pthread_create(3) and memcmp(3)
TRUE: Final = Check(0xFF, 1)  # a C bool


def exactly(value: int) -> Check:
    """An int of just this value."""
    return Check(0xFFFFFFFF, value)


class Address(NamedTuple):
    """A place in the routine's own block."""

    offset: int

    def after(self, size: int) -> "Address":
        """The place so many bytes further on."""
        return Address(self.offset + size)


class Slot(NamedTuple):
    """A part of a step."""

    step: int
    at: int


class Result(NamedTuple):
    """What an earlier step of the routine returned, with its bias added."""

    step: int

    @property
    def slot(self) -> Slot:
        """Where it is kept."""
        return Slot(self.step, _RESULT_AT)

    def step_at(self, base: int) -> int:
        """The address of the step, of a block at this address."""
        return base + STEP_SIZE * self.step

    def read(self, base: int) -> int:
        """What it has returned, of a block in this process's memory."""
        return ctypes.c_long.from_address(self.step_at(base) + _RESULT_AT).value

    def read_int(self, base: int) -> int:
        """The same of a function that returns a C int: the upper half of its register says nothing."""
        return ctypes.c_int.from_address(self.step_at(base) + _RESULT_AT).value

    def write(self, base: int, value: int) -> None:
        """Have it look as if it had returned this."""
        ctypes.c_long.from_address(self.step_at(base) + _RESULT_AT).value = value


class Value(NamedTuple):
    """What memory holds at the time of the call: `size` bytes, the rest of the argument as it was written, 0."""

    place: "Address | Sender | int"
    size: int = 8


class Label:
    """A step to go on with, known once it is placed."""

    step = -1


class Sender(NamedTuple):
    """Where the step of a label finds the name of the step that sent the routine there: the address of a C string."""

    label: Label


Argument = int | bytes | Address | Slot | Result | Value | Label | Sender | None


def function(name: str) -> int:
    """The address of a function of the C library."""
    return address_of(getattr(_libc, name))


def address_of(pointer: Any) -> int:
    """The address of a ctypes function."""
    return ctypes.cast(pointer, c_void_p).value or 0


def read_int(address: int) -> int:
    """The C int at an address of this process."""
    return ctypes.c_int.from_address(address).value


_MEMCPY: Final = function("memcpy")
_NOTHING: Final = function("getppid")  # any call without effect


class Routine:
    """Calls in the order in which they are made; `encode` makes the block."""

    def __init__(self) -> None:
        self.on_failure: Label | None = None  # for calls without a label of their own; None stops the routine
        self._steps: list[tuple[int, list[Any], int, Check, Label | None, Address | None]] = []
        self._data = bytearray()
        self._pointers: list[tuple[int, Address]] = []  # in the data, to other data

    def call(
        self,
        address: int,
        *arguments: Argument,
        check: Check = ANY,
        otherwise: Label | None = None,
        bias: int = 0,
        what: str = "",
    ) -> Result:
        """Call the function at an address; `what` is its name for a Sender. bytes are passed by address, with a NUL."""
        place = len(self._steps) + sum(isinstance(argument, Value | Result) for argument in arguments)
        resolved: list[Any] = [self._argument(place, index, given) for index, given in enumerate(arguments)]
        self._append(address, resolved, bias, check, otherwise or (self.on_failure if check is not ANY else None), what)
        return Result(place)

    def jump(self, label: Label) -> None:
        """Go on with the label's step."""
        self._append(_NOTHING, [], 0, NEVER, label, "")

    def end(self) -> None:
        """Return to whoever carries the routine out."""
        self._append(0, [], 0, ANY, None, "")

    def place(self, label: Label) -> Label:
        """The label is what comes next."""
        label.step = len(self._steps)
        return label

    def here(self) -> Label:
        """A label for what comes next."""
        return self.place(Label())

    def data(self, content: bytes) -> Address:
        """A place that holds this; aligned for any C type of up to 8 bytes."""
        self._data += bytes(-len(self._data) % _ALIGNMENT)
        offset = len(self._data)
        self._data += content
        return Address(offset)

    def cell(self, size: int = 8) -> Address:
        """So many bytes of zeros."""
        return self.data(bytes(size))

    def pointers(self, texts: Sequence[bytes]) -> Address:
        """An array of C strings."""
        places = [self.data(text + b"\0") for text in texts]
        array = self.cell(8 * len(places))
        self._pointers += [(array.offset + 8 * index, place) for index, place in enumerate(places)]
        return array

    def point(self, cell: Address, to: Address) -> None:
        """Have the 8 bytes of a cell point to another place."""
        self._pointers.append((cell.offset, to))

    def write(self, place: Address, content: bytes) -> None:
        """Have a place hold this from the beginning."""
        self._data[place.offset : place.offset + len(content)] = content

    def keep(self, result: Result, place: Address) -> None:
        """Copy the 8 bytes of a result to a place."""
        self._append(_MEMCPY, [place, result.slot, 8], 0, ANY, None, "")

    def encode(self, base: int) -> bytes:
        """The block for this address; its first step is at its beginning, and a null ends them."""
        data_at = self.locate(0, Address(0))
        block = bytearray(data_at) + self._data
        for index, (address, arguments, bias, check, otherwise, name) in enumerate(self._steps):
            filled = [self._resolve(argument, base) for argument in arguments] + [0] * (_ARGUMENTS - len(arguments))
            rest = check.mask, check.want, self._resolve(otherwise, base), self._resolve(name, base), 0
            _STEP.pack_into(block, STEP_SIZE * index, address, *filled, 0, bias & _ALL, *rest)
        for offset, place_of_data in self._pointers:
            struct.pack_into("<Q", block, data_at + offset, self.locate(base, place_of_data))
        return bytes(block)

    def _resolve(self, argument: Any, base: int) -> int:
        """What a slot holds in a block at this address."""
        match argument:
            case Address():
                return self.locate(base, argument)
            case Slot(step, at):
                return base + STEP_SIZE * step + at
            case Sender(label):
                return base + STEP_SIZE * label.step + _SENDER_AT
            case Label(step=step):
                if step < 0:
                    raise ValueError("a label was not placed")
                return base + STEP_SIZE * step
            case None:
                return 0
            case _:
                return int(argument) & _ALL

    def lay_down(self) -> int:
        """Encode it in memory of this process that stays; its address. Raises OSError."""
        size = len(self.encode(0))
        base = new_memory(size)
        ctypes.memmove(base, self.encode(base), size)
        return base

    def locate(self, base: int, place: Address) -> int:
        """The address of a place, of a block at this address."""
        return base + STEP_SIZE * (len(self._steps) + 1) + place.offset

    def _argument(self, step: int, index: int, argument: Argument) -> Any:
        """The argument as it is written; one known at the time of the call only is put in its slot by a call before."""
        slot = Slot(step, 8 + 8 * index)
        match argument:
            case bytes():
                return self.data(argument + b"\0")
            case Result():
                self._append(_MEMCPY, [slot, argument.slot, 8], 0, ANY, None, "")
                return 0
            case Value(place, size):
                self._append(_MEMCPY, [slot, place, size], 0, ANY, None, "")
                return 0
            case _:
                return argument

    def _append(  # noqa: PLR0913 - all that a step is
        self, address: int, arguments: list[Any], bias: int, check: Check, otherwise: Label | None, what: str
    ) -> None:
        name = self.data(os.fsencode(what) + b"\0") if what else None
        self._steps.append((address, arguments, bias, check, otherwise, name))
