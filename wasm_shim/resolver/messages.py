"""What is asked of the image resolver and what it answers: a packet of JSON each way on a socket of packets.

A question with an `expected` sha256 asks for that program's bytes, which come with the answer as a sealed file in
memory; one without asks what the program is. An answer names a program, or a class of `errors` and a sentence, or
nothing: then the image has only what its root file system holds.
"""

import json
from typing import Final, NamedTuple

from wasm_shim import errors
from wasm_shim.errors import Internal, InvalidArgument, WasmShimError

MESSAGE: Final = 64 << 10  # bytes of a packet
IDLE: Final = "WASM_SHIM_RESOLVER_IDLE"  # the variable with the seconds until a resolver that nobody asks leaves
_LONGEST_SENTENCE: Final = 2000  # characters


class Question(NamedTuple):
    """Which program does this word, the first of a container's command line, mean in its image?"""

    namespace: str  # of containerd
    container: str
    word: str
    expected: str = ""

    def to_bytes(self) -> bytes:
        """For a packet; raises InvalidArgument for a word that is longer than any name of a program."""
        data = json.dumps(self).encode()
        if len(data) > MESSAGE:
            raise InvalidArgument(f"no program {self.word[:60]}… in the image; name one that is there")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Question":
        """Read `to_bytes` back; raises ValueError for anything else."""
        fields = json.loads(data)
        if not isinstance(fields, list) or len(fields) != 4 or not all(isinstance(field, str) for field in fields):
            raise ValueError("no question")
        return cls(*fields)


class ImageProgram(NamedTuple):
    """The program of an image: the sha256 of its bytes, how many these are, what to call it, and the image's name."""

    digest: str
    size: int
    name: str
    image: str


def encode_answer(answer: ImageProgram | WasmShimError | None) -> bytes:
    """For a packet."""
    if isinstance(answer, WasmShimError):
        return json.dumps({"error": [type(answer).__name__, str(answer)[:_LONGEST_SENTENCE]]}).encode()
    return json.dumps({"program": answer}).encode()


def decode_answer(data: bytes) -> ImageProgram | None:
    """The program, if there is one; raises the error that answers."""
    answer = json.loads(data)
    if "error" in answer:
        name, sentence = answer["error"]
        failure: WasmShimError = getattr(errors, name, Internal)(sentence)
        raise failure
    return ImageProgram(*answer["program"]) if answer["program"] else None
