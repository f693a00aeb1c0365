"""Parse one verb from the table by getopt's rules, as typer and Docker do; argparse has rules of its own.

It also takes 6 ms to load; this loads nothing.
"""

from collections.abc import Iterator
from typing import Any

from wasm_shim.cli.options import Option, Verb
from wasm_shim.cli.output import OURS, Refusal


class HelpWanted(Exception):
    """`--help` stood among the options: `full` prints it."""


def parse(verb: Verb, words: list[str]) -> dict[str, Any]:
    """The values of a greedy verb's options and arguments by key; raises Refusal or HelpWanted."""
    values: dict[str, Any] = {
        option.key: [] if option.multiple else "" if option.metavar else False for option in verb.options
    }
    left = iter(words)
    rest: list[str] = []
    for word in left:
        if not word.startswith("-") or word in ("-", "--"):
            rest = [*([] if word == "--" else [word]), *left]
            break
        try:
            for option, value in _options(verb, word, left):
                if option.multiple:
                    values[option.key].append(value)
                else:
                    values[option.key] = value
        except ValueError as error:
            raise Refusal(OURS, f"{error}; see: wasm-shim {verb.name} --help") from error
    first, others = verb.arguments
    if not rest:
        raise Refusal(OURS, f"missing argument {first.name}; see: wasm-shim {verb.name} --help")
    return {**values, first.name: rest[0], others.name: rest[1:]}


def _options(verb: Verb, word: str, left: Iterator[str]) -> Iterator[tuple[Option, Any]]:
    """The options that one word holds, a value taken from the words behind it where it needs one."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        option = _find(verb, name)
        if equals and not option.metavar:
            raise ValueError(f"option {name} takes no value")
        yield option, (value if equals else _value(option, name, left))
        return
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = _find(verb, name)
        if option.metavar and letters:
            yield option, letters
            return
        yield option, _value(option, name, left)


def _find(verb: Verb, name: str) -> Option:
    if name in ("-h", "--help"):
        raise HelpWanted
    for option in verb.options:
        if name in option.names:
            return option
    raise ValueError(f"no such option {name}")


def _value(option: Option, name: str, left: Iterator[str]) -> Any:
    if not option.metavar:
        return True
    value = next(left, None)
    if value is None:
        raise ValueError(f"option {name} needs a value: {name} {option.metavar}")
    return value
