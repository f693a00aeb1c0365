"""Parse one verb with argparse: ten times faster to load than typer."""

import argparse
from typing import Any, NoReturn

from wasm_shim.cli.options import Verb
from wasm_shim.cli.output import OURS, Refusal


class HelpWanted(Exception):
    """`--help` stood among the options: `full` prints it."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(OURS, f"{message}; see: {self.prog} --help")


class _Help(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        raise HelpWanted


def parse(verb: Verb, words: list[str]) -> dict[str, Any]:
    """The values of a greedy verb's options and arguments by key; raises Refusal or HelpWanted."""
    parser = _Parser(
        prog=f"wasm-shim {verb.name}",
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80),  # else it loads shutil for the width
    )
    parser.add_argument("-h", "--help", nargs=0, action=_Help)
    for option in verb.options:
        if not option.metavar:
            parser.add_argument(*option.names, dest=option.key, action="store_true")
        elif option.multiple:
            parser.add_argument(*option.names, dest=option.key, action="append", default=[])
        else:
            parser.add_argument(*option.names, dest=option.key, default="")
    first, rest = verb.arguments
    # One argument for both: of two, the first would swallow a "--" behind it, which is the program's.
    parser.add_argument(first.name, nargs=argparse.PARSER)
    values = vars(parser.parse_args(words))
    found = values[first.name]
    if found[0] == "--":  # the end of our options; newer versions of argparse take it away themselves
        del found[0]
    if not found:
        parser.error(f"the following arguments are required: {first.name}")
    return {**values, first.name: found[0], rest.name: found[1:]}
