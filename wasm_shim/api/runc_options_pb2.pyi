from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Options(_message.Message):
    __slots__ = ("systemd_cgroup",)
    SYSTEMD_CGROUP_FIELD_NUMBER: _ClassVar[int]
    systemd_cgroup: bool
    def __init__(self, systemd_cgroup: _Optional[bool] = ...) -> None: ...
