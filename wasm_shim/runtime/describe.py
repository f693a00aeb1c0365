"""Describe a compiled program with the `wasmtime` package's classes: imports, exports, can it be linked.

Loaded by the compiler process and by `wasm_shim.load` only, never by what the zygote forks.
"""

from collections.abc import Iterator

import wasmtime
from wasmtime import component as wc
from wasmtime.component import _types as wt

from wasm_shim.runtime.program import COMPONENT, CORE, Function, Program

_SCALARS: dict[type[wt.ValType], str] = {
    wt.Bool: "bool",
    wt.S8: "s8",
    wt.U8: "u8",
    wt.S16: "s16",
    wt.U16: "u16",
    wt.S32: "s32",
    wt.U32: "u32",
    wt.S64: "s64",
    wt.U64: "u64",
    wt.F32: "f32",
    wt.F64: "f64",
    wt.Char: "char",
    wt.String: "string",
}


def describe_module(engine: wasmtime.Engine, module: wasmtime.Module) -> Program:
    """The description of a core module."""
    functions = tuple(
        _core_function(export.name, export.type)
        for export in module.exports
        if isinstance(export.type, wasmtime.FuncType)
    )
    command = next((f.name for f in functions if f.name == "_start" and not f.parameters and not f.results), "")
    imports = tuple(f"{i.module}#{_core_item(i.name or '', i.type)}" for i in module.imports)
    exports = tuple(_core_item(export.name, export.type) for export in module.exports)
    return Program(CORE, imports, exports, functions, command, _module_refusal(engine, module))


def describe_component(engine: wasmtime.Engine, component: wc.Component) -> Program:
    """The description of a component."""
    imports: list[str] = []
    for name, item in component.type.imports(engine).items():
        imports += _component_lines(engine, name, item.ty)
    exports: list[str] = []
    functions: list[Function] = []
    command = ""
    for name, item in component.type.exports(engine).items():
        exports += _component_lines(engine, name, item.ty)
        functions += _component_functions(engine, name, item.ty)
        if name.startswith("wasi:cli/run@0.2."):
            command = name
    callable_ = tuple(f for f in functions if not f.name.startswith("wasi:"))
    return Program(COMPONENT, tuple(imports), tuple(exports), callable_, command, _component_refusal(engine, component))


def _core_function(name: str, kind: wasmtime.FuncType) -> Function:
    parameters = tuple(("", _core_type(parameter)) for parameter in kind.params)
    return Function(name, parameters, tuple(_core_type(result) for result in kind.results))


def _core_type(kind: wasmtime.ValType) -> str:
    return str(kind).replace("anyref", "externref")  # the library has the name of an old proposal


def _core_item(name: str, kind: object) -> str:
    if isinstance(kind, wasmtime.FuncType):
        return _core_function(name, kind).signature
    return f"{name}: {type(kind).__name__.removesuffix('Type').lower()}"


def _component_functions(engine: wasmtime.Engine, name: str, item: object) -> Iterator[Function]:
    if isinstance(item, wt.FuncType):
        result = item.result
        parameters = tuple((parameter, _type_name(kind)) for parameter, kind in item.params)
        yield Function(name, parameters, () if result is None else (_type_name(result),))
    elif isinstance(item, wt.ComponentInstanceType):
        for inner, kind in item.exports(engine).items():
            for function in _component_functions(engine, inner, kind.ty):
                yield function._replace(name=f"{name}#{function.name}")


def _component_lines(engine: wasmtime.Engine, name: str, item: object) -> Iterator[str]:
    if isinstance(item, wt.FuncType):
        yield from (function.signature for function in _component_functions(engine, name, item))
    elif isinstance(item, wt.ComponentInstanceType):
        yield name
        for inner, kind in item.exports(engine).items():
            yield from (f"  {line}" for line in _component_lines(engine, inner, kind.ty))
    else:
        yield f"{name}: {type(item).__name__.removesuffix('Type').lower()}"


def _type_name(kind: wt.ValType) -> str:  # noqa: C901, PLR0911 - one plain case per kind of type
    """A value type as WIT writes it, with the fields of unnamed compound types spelled out."""
    match kind:
        case _ if type(kind) in _SCALARS:
            return _SCALARS[type(kind)]
        case wt.ListType():
            return f"list<{_type_name(kind.element)}>"
        case wt.OptionType():
            return f"option<{_type_name(kind.payload)}>"
        case wt.TupleType():
            return f"tuple<{', '.join(_type_name(element) for element in kind.elements)}>"
        case wt.RecordType():
            return f"record {{{', '.join(f'{name}: {_type_name(field)}' for name, field in kind.fields)}}}"
        case wt.VariantType():
            cases = (name if payload is None else f"{name}({_type_name(payload)})" for name, payload in kind.cases)
            return f"variant {{{', '.join(cases)}}}"
        case wt.EnumType():
            return f"enum {{{', '.join(kind.names)}}}"
        case wt.FlagsType():
            return f"flags {{{', '.join(kind.names)}}}"
        case wt.ResultType():
            sides = ["_" if side is None else _type_name(side) for side in (kind.ok, kind.err)]
            return f"result<{', '.join(sides)}>"
        case _:  # resources, futures, streams
            return type(kind).__name__.removesuffix("Type").lower()


# The linker matches all imports before it makes the first instance, so a store that may hold none answers
# "can this be linked?" and never runs a line of the guest.


def _module_refusal(engine: wasmtime.Engine, module: wasmtime.Module) -> str:
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    try:
        linker.instantiate(_barren_store(engine), module)
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        return _explain(str(error))
    return ""


def _component_refusal(engine: wasmtime.Engine, component: wc.Component) -> str:
    linker = wc.Linker(engine)
    linker.add_wasip2()
    linker.add_wasi_http()
    try:
        linker.instantiate(_barren_store(engine), component)
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        return _explain(str(error))
    return ""


def _barren_store(engine: wasmtime.Engine) -> wasmtime.Store:
    store = wasmtime.Store(engine)
    store.set_limits(instances=0, memories=0, tables=0)
    return store


def _explain(message: str) -> str:
    """One sentence on a link error; empty when the linker stopped only at the store's limit."""
    if message.startswith("resource limit exceeded"):
        return ""
    name = message.split("`")[1] if message.count("`") > 1 else ""
    if message.startswith("unknown import") and name.startswith(("wasi:", "cm32p2")):
        return "it is a core module built for a component; make one of it first: wasm-tools component new"
    if message.startswith("unknown import"):
        return f"it imports {name.replace('::', '.')}, which no host interface provides; {_remedy(name)}"
    if message.startswith("component imports"):
        missing = message.split("`")[3] if message.count("`") > 3 else ""
        inside = f" (its {missing})" if missing else ""
        return f"it imports {name}{inside}, which no host interface provides; {_remedy(name)}"
    return " ".join(message.split())


def _remedy(name: str) -> str:
    if name.startswith("wasi:") and "@0.3" in name:
        return "WASI 0.3 is not supported yet, build it for WASI 0.2"
    if name.startswith("wasi_unstable"):
        return "build it for wasi_snapshot_preview1"
    if name.startswith(("wasi:", "wasi_snapshot_preview1")):
        return "build it for WASI 0.2 or wasi_snapshot_preview1 as they were released"
    return "build it for WASI, or compose it with a component that provides this"
