"""Every verb of the command line with its options, declared once.

`quick` parses the verbs on the hot path from this table, without importing typer; `full` builds all the
others, and all help, from the same table.
"""

from typing import Final, NamedTuple


class Option(NamedTuple):
    """`metavar` is empty for a flag; `multiple` options may be given again and again."""

    names: tuple[str, ...]
    help: str
    metavar: str = ""
    multiple: bool = False

    @property
    def key(self) -> str:
        """The name of its value: the long name, as an identifier."""
        return max(self.names, key=len).lstrip("-").replace("-", "_")


class Argument(NamedTuple):
    """A positional word; `rest` takes all words that follow, unparsed when the verb is `greedy`."""

    name: str
    help: str
    rest: bool = False


class Verb(NamedTuple):
    """`entry` is MODULE:FUNCTION below wasm_shim.cli; it takes the values and returns the exit code.

    `quick` verbs never load typer; `greedy` ones leave everything behind the first word alone.
    """

    name: str
    summary: str
    entry: str
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    quick: bool = False
    greedy: bool = False


VERBS: Final = (
    Verb(
        "run",
        "Run a WebAssembly program in a new container.",
        "run:run",
        (
            Option(("--rm",), "Remove the container when it ends."),
            Option(("--name",), "Name the container.", "NAME"),
            Option(("-e", "--env"), "Set a variable, or pass on the caller's.", "NAME[=VALUE]", multiple=True),
            Option(("--env-file",), "Read variables from a file, one NAME=VALUE a line.", "FILE", multiple=True),
            Option(("-v", "--volume"), "Show the guest a directory or file.", "HOST:GUEST[:ro|rw]", multiple=True),
            Option(("--dir",), "Show the guest a directory by the same name.", "HOST[::GUEST]", multiple=True),
            Option(("-w", "--workdir"), "Where the guest opens relative paths.", "DIR"),
            Option(("-i", "--interactive"), "Pass stdin on to the guest."),
            Option(("-t", "--tty"), "Give the guest a terminal."),
            Option(("--entrypoint",), "Run this program of the container instead.", "PATH"),
            Option(("--invoke",), "Call an exported function and print what it returns.", "'NAME(ARGUMENT, …)'"),
        ),
        (
            Argument("IMAGE", "A .wasm or .wat file."),
            Argument("ARG", "Arguments of the program.", rest=True),
        ),
        quick=True,
        greedy=True,
    ),
    Verb(
        "ps",
        "List containers.",
        "containers:ps",
        (Option(("-a", "--all"), "List those that have ended, too."), Option(("-q", "--quiet"), "Print ids only.")),
    ),
    Verb(
        "rm",
        "Remove containers that have ended.",
        "containers:rm",
        (),
        (Argument("CONTAINER", "Names or ids, or the beginning of one.", rest=True),),
    ),
    Verb(
        "wit",
        "Print what a program imports and exports.",
        "programs:wit",
        (),
        (Argument("FILE", "A .wasm or .wat file."),),
    ),
    Verb(
        "compile",
        "Compile programs into the cache, so that their first run is as fast as the next.",
        "programs:compile_",
        (),
        (Argument("FILE", ".wasm or .wat files.", rest=True),),
    ),
    Verb("version", "Print versions and how guests are walled in.", "programs:version"),
)
