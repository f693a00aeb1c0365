"""The note in a bundle that nothing is left of its container: the answer to the `delete` that containerd runs next.

Its one line is read by the shell part of `containerd-shim-wasm-v1`: the container's id, a space, and an encoded
DeleteResponse in octal escapes for printf. A pod shim that dies before it has left leaves no such note, and `delete`
then looks for what there is.
"""

import os
from typing import Final

from wasm_shim.paths import remove_file
from wasm_shim.shim.convert import delete_response
from wasm_shim.task.events import Created, Deleted, TaskEvent

NAME: Final = "wasm-shim-deleted"
_BACKSLASH: Final = "\\"


class Receipt:
    """That of the container which the shim was started for."""

    def __init__(self, bundle: str, id_: str) -> None:
        self._path, self._id, self._answer = f"{bundle}/{NAME}", id_, b""

    def note(self, event: TaskEvent) -> None:
        """Remember how the container ended, unless it has begun again."""
        if isinstance(event, Created) and event.creation.id == self._id:
            self._answer = b""
        if isinstance(event, Deleted) and event.id == self._id:
            self._answer = delete_response(event.pid, event.exit).encode()

    def withdraw(self) -> None:
        """To be called when the container's life begins; raises OSError."""
        remove_file(self._path)

    def write(self) -> None:
        """To be called when nothing is left, the socket neither; the bundle may have gone already."""
        if not self._answer:
            return
        escapes = "".join([f"{_BACKSLASH}{byte:03o}" for byte in self._answer])
        temporary = f"{self._path}.new"
        try:
            with open(temporary, "wb") as file:
                file.write(f"{self._id} {escapes}\n".encode())
            os.rename(temporary, self._path)
        except OSError:
            return  # then `delete` takes the long way
