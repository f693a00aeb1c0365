"""What is known of a compiled program without loading it: kind, imports, exports, how to run it."""

import json
from typing import Any, NamedTuple

from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound

FORMAT = 1  # of the JSON below; part of the cache's key

CORE, COMPONENT = "core module", "component"
SCALARS = frozenset(
    "i32 i64 f32 f64 bool s8 u8 s16 u16 s32 u32 s64 u64 char string".split()  # the types a call's text can hold
)


class Function(NamedTuple):
    """An exported function; `name` of one inside an exported interface is `interface#name`.

    Parameters are (name, type) with an empty name in core modules; types are written as in WIT.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    results: tuple[str, ...]

    @property
    def signature(self) -> str:
        """For a person: `add: func(a: s32, b: s32) -> s32`."""
        parameters = ", ".join(f"{name}: {kind}" if name else kind for name, kind in self.parameters)
        results = ", ".join(self.results)
        arrow = f" -> {results}" if len(self.results) == 1 else f" -> ({results})" if results else ""
        return f"{self.name}: func({parameters}){arrow}"


class Program(NamedTuple):
    """A compiled program's description.

    `command` is the export that runs it as a command (`_start`, `wasi:cli/run@0.2.x`) or empty; `imports`
    and `exports` are lines for a person; `refusal` says why the host cannot link it, or is empty.
    """

    kind: str
    imports: tuple[str, ...]
    exports: tuple[str, ...]
    functions: tuple[Function, ...]
    command: str
    refusal: str

    def to_json(self) -> bytes:
        """The description as stored beside the precompiled code."""
        return json.dumps({"format": FORMAT, **self._asdict()}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Program":
        """Read `to_json` back; raises ValueError where it is damaged or of another format."""
        try:
            fields: dict[str, Any] = json.loads(data)
            if fields.pop("format") != FORMAT:
                raise ValueError("another format")
            functions = tuple(
                Function(name, tuple((a, b) for a, b in parameters), tuple(results))
                for name, parameters, results in fields.pop("functions")
            )
            imports, exports = tuple(fields.pop("imports")), tuple(fields.pop("exports"))
            return cls(imports=imports, exports=exports, functions=functions, **fields)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"damaged description: {error!r}") from error

    def require_command(self, name: str) -> None:
        """Check that the program can run as a command; `name` is how the user called it.

        Raises FailedPrecondition for an import that the host lacks, else InvalidArgument with the reason and, where
        there are exports to call, how to call them.
        """
        if self.refusal:
            raise FailedPrecondition(f"cannot run {name}: {self.refusal}")
        if self.command:
            return
        if any(export.startswith("wasi:http/incoming-handler@") for export in self.exports):
            message = f"cannot run {name}: it is an HTTP component, and this version serves none; run a command"
            raise InvalidArgument(message)
        wanted = "_start" if self.kind == CORE else "wasi:cli/run"
        if any(export.startswith(("wasi:cli/run@", "cm32p2|wasi:cli/run@")) for export in self.exports):
            if self.kind == CORE:
                message = f"cannot run {name}: it is a core module built for a component; make one of it first: "
                raise InvalidArgument(message + "wasm-tools component new")
            raise InvalidArgument(f"cannot run {name}: it is a command of another WASI than 0.2; build it for WASI 0.2")
        calls = ", ".join(function.signature for function in self.functions)
        remedy = f"call one of its exports with --invoke: {calls}" if calls else "build it as a command"
        raise InvalidArgument(f"cannot run {name}: the {self.kind} has no command export {wanted}; {remedy}")

    def function(self, name: str) -> Function:
        """The exported function of that name, or of that name in just one exported interface.

        Raises NotFound with the list of what there is, and FailedPrecondition when the host cannot link the
        program.
        """
        if self.refusal:
            raise FailedPrecondition(f"cannot call {name}: {self.refusal}")
        exact = [function for function in self.functions if function.name == name]
        found = exact or [function for function in self.functions if function.name.endswith(f"#{name}")]
        if len(found) == 1:
            return found[0]
        there = ", ".join(function.signature for function in found or self.functions) or "no functions"
        if found:
            raise InvalidArgument(f"export {name} is in several interfaces; name one of: {there}")
        raise NotFound(f"no exported function {name}; the {self.kind} exports {there}")
