from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RunOptions(_message.Message):
    __slots__ = ("program", "entrypoint", "invoke")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    INVOKE_FIELD_NUMBER: _ClassVar[int]
    program: str
    entrypoint: str
    invoke: str
    def __init__(self, program: _Optional[str] = ..., entrypoint: _Optional[str] = ..., invoke: _Optional[str] = ...) -> None: ...
