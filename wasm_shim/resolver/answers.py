"""Answers questions about the programs of images, from what containerd knows."""

import os
from collections import OrderedDict
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl
from threading import Lock
from typing import Final
from weakref import WeakValueDictionary

from oci import errors as oci_errors
from oci.content import verified
from oci.descriptor import Descriptor
from oci.program import choose, read_artifacts
from wasm_shim.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from wasm_shim.resolver.containerd import Containerd, ContainerdSource
from wasm_shim.resolver.messages import ImageProgram, Question
from wasm_shim.resolver.rule import Choice, check_word, host_platform, sha256_of
from wasm_shim.runtime.source import LARGEST

_REMEMBERED: Final = 1000  # images
_SEALS: Final = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_AGAIN: Final = "create the container again"


class Blob:
    """A program's verified bytes, in a sealed file in memory for as long as somebody holds this."""

    def __init__(self) -> None:
        self._lock, self.descriptor = Lock(), -1

    def fill(self, source: ContainerdSource, layer: Descriptor) -> None:
        """Read them, unless another thread has; raises OciError and ResourceExhausted."""
        with self._lock:
            if self.descriptor < 0:
                self.descriptor = _read(source, layer)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Answers:
    """Knows what the images of one containerd hold; for many threads."""

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd
        self._known: OrderedDict[tuple[str, str], Choice] = OrderedDict()
        self._lock = Lock()
        self._blobs: WeakValueDictionary[str, Blob] = WeakValueDictionary()

    def answer(self, question: Question) -> tuple[ImageProgram | None, Blob | None]:
        """The program, and its bytes where a digest is expected; raises WasmShimError."""
        try:
            image = self._containerd.image_of(question.namespace, question.container)
        except oci_errors.NotFound as error:
            where = f"in the namespace {question.namespace}"
            raise NotFound(f"containerd knows no container {question.container} {where}; {_AGAIN}") from error
        except oci_errors.OciError as error:
            raise Unavailable(f"cannot look for {question.word} in the image: {error}") from error
        if not image:
            return None, None
        try:
            return self._program(image, question)
        except oci_errors.NotFound as error:
            raise NotFound(f"the image {image} is not complete in containerd: {error}; pull it again") from error
        except oci_errors.Unavailable as error:
            raise Unavailable(f"cannot look for {question.word} in the image {image}: {error}") from error
        except oci_errors.OciError as error:
            raise InvalidArgument(f"cannot run the image {image}: {error}") from error

    def _program(self, image: str, question: Question) -> tuple[ImageProgram | None, Blob | None]:
        source = ContainerdSource(self._containerd, question.namespace)
        try:
            target = source.resolve(image)
        except oci_errors.NotFound as error:
            message = f"no program {question.word} in the root file system, and the image {image} has been removed"
            raise NotFound(f"{message}; pull it again") from error
        choice = self._choice(source, question.namespace, target)
        if choice.layer is None:
            return None, None
        check_word(question.word, choice)
        program = ImageProgram(sha256_of(choice.layer), choice.layer.size, choice.name, image)
        if not question.expected:
            return program, None
        if question.expected != program.digest:
            raise Unavailable(f"the image {image} has changed meanwhile; {_AGAIN}")
        return program, self._blob(source, choice.layer, program.name)

    def _choice(self, source: ContainerdSource, namespace: str, target: Descriptor) -> Choice:
        """What an image holds, which its digest settles for ever."""
        key = namespace, str(target.digest)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        choice = Choice.of(*choose(read_artifacts(source, target, host_platform())))
        with self._lock:
            if choice.is_small:
                self._known[key] = choice
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return choice

    def _blob(self, source: ContainerdSource, layer: Descriptor, name: str) -> Blob:
        """The verified bytes, once for all who ask for them at the same time."""
        if layer.size > LARGEST:
            raise InvalidArgument(f"cannot run {name}: it has {layer.size} bytes; a program may have {LARGEST}")
        with self._lock:
            blob = self._blobs.setdefault(str(layer.digest), Blob())
        blob.fill(source, layer)
        return blob


def _read(source: ContainerdSource, layer: Descriptor) -> int:
    file = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for chunk in verified(source.read(layer), layer):
            view = memoryview(chunk)
            while view:
                view = view[os.write(file, view) :]
        fcntl(file, F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(file)
        raise ResourceExhausted(f"cannot hold the program in memory: {error.strerror}; free some") from error
    except BaseException:
        os.close(file)
        raise
    return file
