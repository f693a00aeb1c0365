"""The whole command line as a typer application, built from the table; prints all help."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wasm_shim.cli.options import GROUPS, VERBS, Argument, Option, Verb
from wasm_shim.cli.output import OURS, Refusal


def main(words: list[str], invoke: Callable[[Verb, dict[str, Any]], int]) -> int:
    """Parse and run; the exit code. Raises Refusal for words that do not fit."""
    try:
        outcome = _application(invoke)(words, prog_name="wasm-shim", standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        message = error.format_message()
        if not message or not words:  # no word at all: the help has been printed
            return OURS
        raise Refusal(OURS, f"{message.rstrip('.')}; see: wasm-shim --help") from error
    return outcome if isinstance(outcome, int) else 0


def _application(invoke: Callable[[Verb, dict[str, Any]], int]) -> typer.Typer:
    app = _group("wasm-shim", "Run WebAssembly programs as containers, and move them through registries.")
    groups = {name: _group(name, help_) for name, help_ in GROUPS.items()}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        settings = {"allow_interspersed_args": not verb.greedy}
        parent = groups[group] if group else app
        parent.command(name, help=verb.summary, context_settings=settings)(_command(verb, invoke))
    for each in groups.values():
        app.add_typer(each)
    return app


def _group(name: str, help_: str) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=help_,
        add_completion=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )


def _command(verb: Verb, invoke: Callable[[Verb, dict[str, Any]], int]) -> Callable[..., int]:
    """A function whose signature typer reads as the verb's options and arguments."""

    def command(**values: Any) -> int:
        return invoke(verb, values)

    parameters = [_option(option) for option in verb.options] + [_argument(a) for a in verb.arguments]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # how a function tells it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(option: Option) -> inspect.Parameter:
    if not option.metavar:
        return _parameter(option.key, bool, typer.Option(*option.names, help=option.help), default=False)
    info = typer.Option(*option.names, help=option.help, metavar=option.metavar, show_default=False)
    if option.multiple:
        return _parameter(option.key, list[str], info, default=[])
    return _parameter(option.key, str, info, default="")


def _argument(argument: Argument) -> inspect.Parameter:
    info = typer.Argument(help=argument.help, metavar=argument.name, show_default=False)
    kind: Any = list[str] if argument.rest else str
    missing: Any = [] if argument.rest else ""
    return _parameter(argument.name, kind, info, default=missing if argument.optional else inspect.Parameter.empty)


def _parameter(name: str, kind: Any, info: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )
