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
    optional: bool = False


class Verb(NamedTuple):
    """`entry` is MODULE:FUNCTION below wasm_shim.cli; it takes the values and returns the exit code.

    A name of two words is a verb of one of `GROUPS`. `quick` verbs never load typer; `greedy` ones leave everything
    behind the first word alone.
    """

    name: str
    summary: str
    entry: str
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    quick: bool = False
    greedy: bool = False


GROUPS: Final = {"image": "Look at one image."}

_QUIET: Final = Option(("-q", "--quiet"), "Print the digest only, and no progress.")
_REGISTRY: Final = (
    Option(("--plain-http",), "Speak HTTP without TLS to a registry on another machine, too."),
    Option(("--ca-file",), "Trust these certificates (PEM), too.", "FILE"),
)
_PACK: Final = (
    Option(("--layout",), "How to lay the program out: cncf (if nothing is said), runwasi or image.", "LAYOUT"),
    Option(("-e", "--env"), "Set a variable for whoever runs it.", "NAME=VALUE", multiple=True),
    Option(("--cmd",), "An argument that the program gets when nobody gives others.", "ARG", multiple=True),
    Option(("--label",), "Give the image a label.", "NAME=VALUE", multiple=True),
    Option(("--annotation",), "Give the manifest an annotation.", "NAME=VALUE", multiple=True),
    Option(("--user",), "Who runs it under containerd, 65532:65532 if nothing is said.", "UID[:GID]"),
)
_FILE: Final = Argument("FILE", "A .wasm or .wat file.")
_REF: Final = Argument("REF", "An image, such as ghcr.io/owner/name:tag.")
_REFS: Final = Argument("REF", "Images by name or id.", rest=True)

IMAGE_VERBS: Final = (
    Verb(
        "pack",
        "Pack a program as an image.",
        "pack:pack",
        (
            Option(("-t", "--tag"), "Keep it under this name among the images here.", "REF"),
            Option(("-o", "--output"), "Write it to a directory, as an OCI layout.", "DIR"),
            *_PACK,
            _QUIET,
        ),
        (_FILE,),
    ),
    Verb(
        "push",
        "Send an image to a registry, or pack a program and send that.",
        "pack:push",
        (*_PACK, *_REGISTRY, _QUIET),
        (
            Argument("FILE", "A .wasm or .wat file; without it, REF is sent from the images here.", optional=True),
            Argument("REF", "Where to: a registry, a repository there and a tag.", optional=True),
        ),
    ),
    Verb("pull", "Get an image from a registry.", "registries:pull", (*_REGISTRY, _QUIET), (_REF,)),
    Verb(
        "tag",
        "Give an image one more name.",
        "images:tag",
        (),
        (Argument("SOURCE", "An image by name or id."), Argument("TARGET", "The new name.")),
    ),
    Verb(
        "images",
        "List the images here.",
        "images:images",
        (
            Option(("-q", "--quiet"), "Print ids only."),
            Option(("--digests",), "Show digests in full."),
            Option(("--json",), "Print one JSON object a line."),
        ),
    ),
    Verb("rmi", "Remove names of images, and what no name leads to any more.", "images:rmi", (), (_REFS,)),
    Verb(
        "save",
        "Write images to an OCI archive.",
        "images:save",
        (Option(("-o", "--output"), "Where to; - or nothing is stdout.", "FILE"),),
        (_REFS,),
    ),
    Verb(
        "load",
        "Take in the images of an OCI archive.",
        "images:load",
        (Option(("-i", "--input"), "Where from; - or nothing is stdin.", "FILE"),),
    ),
    Verb(
        "login",
        "Store a user name and a password for a registry, once it has accepted them.",
        "registries:login",
        (
            Option(("-u", "--username"), "The user name.", "USER"),
            Option(("--password-stdin",), "Read the password from stdin."),
            *_REGISTRY,
        ),
        (Argument("REGISTRY", "Host name and, if need be, port."),),
    ),
    Verb(
        "logout",
        "Remove what is stored for a registry.",
        "registries:logout",
        (),
        (Argument("REGISTRY", "Host name and, if need be, port."),),
    ),
    Verb(
        "image inspect",
        "Print what an image here consists of.",
        "inspect:inspect",
        (Option(("--json",), "Print it as JSON."),),
        (Argument("REF", "An image by name or id."),),
    ),
    Verb(
        "image explain",
        "Say what an image or a file is, and which runtimes and tools can use it.",
        "inspect:explain",
        _REGISTRY,
        (Argument("REF", "An image here or in a registry, or a .wasm or .wat file."),),
    ),
)

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
            Option(("--pull",), "Get the image: missing (if nothing is said), always or never.", "WHEN"),
            Option(("-q", "--quiet"), "Show no progress while getting it."),
            *_REGISTRY,
            Option(("--invoke",), "Call an exported function and print what it returns.", "'NAME(ARGUMENT, …)'"),
        ),
        (
            Argument("IMAGE", "A .wasm or .wat file, or an image."),
            Argument("ARG", "Arguments of the program.", rest=True, optional=True),
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
        (_FILE,),
    ),
    Verb(
        "compile",
        "Compile programs into the cache, so that their first run is as fast as the next.",
        "programs:compile_",
        (),
        (Argument("FILE", ".wasm or .wat files.", rest=True),),
    ),
    *IMAGE_VERBS,
    Verb("version", "Print versions and how guests are walled in.", "programs:version"),
)
