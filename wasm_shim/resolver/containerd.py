"""containerd's gRPC API, as far as images need it: which image a container has, and the content of images."""

from collections.abc import Iterator
from typing import Any, Final

import grpc

from oci.content import CHUNK
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import NotFound, OciError, Unavailable
from wasm_shim.api.containers_pb2 import GetContainerRequest, GetContainerResponse
from wasm_shim.api.content_pb2 import ReadContentRequest, ReadContentResponse
from wasm_shim.api.images_pb2 import GetImageRequest, GetImageResponse

_SERVICES: Final = "/containerd.services"
_SECONDS: Final = 4.0  # for a question about names; the preparer waits little longer
_READ_SECONDS: Final = 18.0  # for a blob
_NAMESPACE: Final = "containerd-namespace"
_OPTIONS: Final = (
    ("grpc.default_authority", "localhost"),  # else the socket's path, which is no name of a host
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),  # after a restart of containerd
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.max_receive_message_length", 16 << 20),
)


class Containerd:
    """A connection to one containerd, made when first needed and again after each loss; for many threads."""

    def __init__(self, address: str) -> None:
        """`address` is the path of its socket."""
        self.address = address
        channel = grpc.insecure_channel(f"unix:{address}", options=_OPTIONS)
        self._container = _method(channel, "containers", "Get", GetContainerResponse)
        self._image = _method(channel, "images", "Get", GetImageResponse)
        self._content = channel.unary_stream(
            f"{_SERVICES}.content.v1.Content/Read",
            request_serializer=ReadContentRequest.SerializeToString,
            response_deserializer=ReadContentResponse.FromString,
        )

    def image_of(self, namespace: str, container: str) -> str:
        """The name of a container's image, or empty. Raises NotFound, Unavailable."""
        request = GetContainerRequest(id=container)
        image: str = self._ask(self._container, request, namespace).container.image
        return image

    def target_of(self, namespace: str, image: str) -> Descriptor:
        """What the name of an image leads to. Raises NotFound, Unavailable, InvalidReference."""
        target = self._ask(self._image, GetImageRequest(name=image), namespace).image.target
        return Descriptor(target.media_type, Digest.parse(target.digest), target.size)

    def read(self, namespace: str, digest: str, offset: int) -> Iterator[bytes]:
        """A blob's bytes in the pieces in which containerd sends them. Raises NotFound, Unavailable."""
        request = ReadContentRequest(digest=digest, offset=offset)
        call = self._content(request, timeout=_READ_SECONDS, metadata=((_NAMESPACE, namespace),))
        try:
            for part in call:
                yield part.data
        except grpc.RpcError as error:
            raise self._failure(error) from error
        finally:
            call.cancel()

    def _ask(self, method: Any, request: Any, namespace: str) -> Any:
        try:
            return method(request, timeout=_SECONDS, metadata=((_NAMESPACE, namespace),))
        except grpc.RpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.RpcError) -> OciError:
        code, details = error.code(), error.details() or "nothing more"
        if code is grpc.StatusCode.NOT_FOUND:
            return NotFound(details)
        if code is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"containerd at {self.address} cannot be reached; look whether it runs")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"containerd at {self.address} does not answer in time; look at its log")
        return Unavailable(f"containerd at {self.address} refuses: {details}; look at its log")


class ContainerdSource:
    """The images and the content of one of containerd's namespaces: an `oci.content.Source`."""

    def __init__(self, containerd: Containerd, namespace: str) -> None:
        self._containerd, self._namespace = containerd, namespace

    def resolve(self, name: str) -> Descriptor:
        """What the name of an image leads to. Raises NotFound."""
        return self._containerd.target_of(self._namespace, name)

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on, in pieces of at most CHUNK, not verified. Raises NotFound."""
        for data in self._containerd.read(self._namespace, str(descriptor.digest), offset):
            for at in range(0, len(data), CHUNK):
                yield data[at : at + CHUNK]


def _method(channel: grpc.Channel, service: str, name: str, answer: Any) -> Any:
    request = {"containers": GetContainerRequest, "images": GetImageRequest}[service]
    return channel.unary_unary(
        f"{_SERVICES}.{service}.v1.{service.capitalize()}/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
