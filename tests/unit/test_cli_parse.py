"""Both parsers of the command line, the table they share, and what the quick one loads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wasm_shim.cli import full
from wasm_shim.cli.options import GROUPS, VERBS, Verb
from wasm_shim.cli.output import OURS, Refusal
from wasm_shim.cli.quick import HelpWanted, parse

RUN = next(verb for verb in VERBS if verb.name == "run")
QUICK_VERBS = [verb for verb in VERBS if verb.quick]
HELP, REFUSED = "help", "refused"
EVERY_VERB = pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])

# Words as people write them. A word that begins with a dash and has a blank in it, or is a negative number, is a
# positional one for argparse, and so is no option of anybody's.
WORD = st.sampled_from(["a.wasm", "x", "", "A=1", "--", "-", "é", "a b", "=", "run"]) | st.text("ab./:=é ", max_size=5)
FLAGS = [name for option in RUN.options if not option.metavar for name in option.names]
VALUED = [name for option in RUN.options if option.metavar for name in option.names]
VALUE = WORD.filter(lambda word: not word.startswith("-")) | st.just("-")
LONG = [name for name in VALUED if name.startswith("--")]
SHORT = [name for name in VALUED if not name.startswith("--")]
OPTION = st.one_of(
    st.sampled_from(FLAGS).map(lambda name: [name]),
    st.tuples(st.sampled_from(VALUED), VALUE).map(list),
    st.tuples(st.sampled_from(LONG), VALUE | st.just("--rm")).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
    st.tuples(st.sampled_from(SHORT), VALUE.filter(lambda v: v and v[0] not in "=-")).map(lambda pair: ["".join(pair)]),
    st.permutations(["i", "t"]).map(lambda letters: ["-" + "".join(letters)]),
    st.tuples(st.sampled_from(["-ie", "-itw", "-tv"]), VALUE).map(list),
)
BAD = st.sampled_from(["--nonsense", "-x", "--rm=1", "--nam", "-itx", "--name"]).map(lambda word: [word])
OPTIONS = st.lists(OPTION, max_size=4).map(lambda groups: [word for group in groups for word in group])
IMAGE = WORD.filter(lambda word: not word.startswith("-"))
TAIL = st.lists(WORD | st.sampled_from(["--rm", "--help", "-h", "-e", "--name=x", "-1"]), max_size=4)


def quickly(words: list[str], verb: Verb = RUN) -> dict[str, Any] | str:
    """What the quick parser makes of the words."""
    try:
        values = parse(verb, words)
    except HelpWanted:
        return HELP
    except Refusal as refusal:
        return REFUSED if refusal.code == OURS else f"code {refusal.code}"
    return {key: value for key, value in values.items() if key != "help"}


def fully(words: list[str], verb: Verb = RUN) -> dict[str, Any] | str:
    """What the full parser makes of them."""
    got: list[dict[str, Any]] = []

    def invoke(_verb: Verb, values: dict[str, Any]) -> int:
        got.append(values)
        return 7

    try:
        code = full.main([*verb.name.split(), *words], invoke)
    except Refusal as refusal:
        return REFUSED if refusal.code == OURS else f"code {refusal.code}"
    assert code == (7 if got else 0)
    return got[0] if got else HELP


@settings(max_examples=40)  # each makes a typer application
@given(OPTIONS, IMAGE, TAIL)
@example([], "a.wasm", ["x", "--", "y"])
@example(["--rm", "-e", "A=1", "-eB", "-v", "/a:/b:ro"], "a.wasm", ["-e", "--name"])
def test_parsers_agree(options: list[str], image: str, tail: list[str]) -> None:
    """The same words mean the same for both; nothing behind the image is looked at."""
    words = [*options, image, *tail]
    values = quickly(words)
    assert values == fully(words)
    assert isinstance(values, dict)
    assert (values["IMAGE"], values["ARG"]) == (image, tail)


@settings(max_examples=20)
@given(OPTIONS, BAD)
def test_parsers_refuse_the_same(options: list[str], bad: list[str]) -> None:
    """Both refuse what is no option of the verb, or lacks its value or the image, with our exit code."""
    for words in ([*options, *bad], [*options, *bad, "a.wasm"] if bad != ["--name"] else options):
        assert quickly(words) == fully(words) == REFUSED


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--rm", "-h"], ["-e", "A=1", "--help", "a.wasm"]])
def test_help_among_the_options(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Both know when help is wanted, and full prints it."""
    assert quickly(words) == HELP
    assert fully(words) == HELP
    assert "--entrypoint" in capfd.readouterr().out


@pytest.mark.parametrize("tail", [["--help"], ["-h"], ["--rm"], ["-e"], ["--name=x"], ["--nonsense"], ["-1"], [""]])
def test_nothing_behind_the_image_is_parsed(tail: list[str]) -> None:
    """The guest's words are the guest's."""
    for words in (["a.wasm", *tail], ["--rm", "--", "a.wasm", *tail]):
        values = quickly(words)
        assert isinstance(values, dict)
        assert (values["IMAGE"], values["ARG"], values["name"], values["env"]) == ("a.wasm", tail, "", [])
        assert values == fully(words)


@pytest.mark.parametrize(
    "words",
    [
        ["a.wasm", "--", "x"],
        ["--name=--", "a.wasm"],
        ["-e", "-x=1", "a.wasm"],
        ["-e=A", "a.wasm"],
        ["-1", "a.wasm"],
        ["-x y", "a.wasm"],
        ["--name=-x", "a.wasm"],
        ["-", "x"],
        ["--", "--", "x"],
        [],
    ],
)
def test_parsers_agree_on_odd_words(words: list[str]) -> None:
    """Words with dashes in odd places mean the same for both."""
    assert quickly(words) == fully(words)


# The table


@EVERY_VERB
def test_help_lists_every_option(verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    """The help of a verb has its summary and every name of every option and argument."""
    assert full.main([*verb.name.split(), "--help"], lambda *_: 1) == 0
    printed = capfd.readouterr().out
    plain = " ".join(printed.replace("│", " ").split())
    assert verb.summary.split(",")[0] in plain
    for option in verb.options:
        assert all(name in printed for name in option.names), option
    assert all(argument.name in printed for argument in verb.arguments)


def test_help_lists_every_verb(capfd: pytest.CaptureFixture[str]) -> None:
    """The program's help has all verbs, a group's its own; without a word it is printed, too, and the exit code is
    ours."""
    for group in ([], *([name] for name in GROUPS)):
        assert full.main([*group, "--help"], lambda *_: 1) == 0
        printed = capfd.readouterr().out
        names = [verb.name.split() for verb in VERBS]
        assert all(name[len(group)] in printed for name in names if name[: len(group)] == group)
        assert full.main(group, lambda *_: 1) == OURS


@pytest.mark.parametrize(
    "words", [["nonsense"], ["--nonsense"], ["ps", "--nonsense"], ["rm"], ["wit"], ["ps", "x"], ["image", "x"]]
)
def test_rejects_other_words(words: list[str]) -> None:
    """A verb or an option that is not there is refused in one line that names the way to the help."""
    with pytest.raises(Refusal, match="; see: wasm-shim --help") as refusal:
        full.main(words, lambda *_: 1)
    assert refusal.value.code == OURS
    assert "\n" not in str(refusal.value)


@EVERY_VERB
def test_table_is_consistent(verb: Verb) -> None:
    """No two options share a name or a key, every entry exists, and every help is a sentence."""
    import importlib

    names = [name for option in verb.options for name in option.names]
    keys = [option.key for option in verb.options] + [argument.name for argument in verb.arguments]
    assert len(set(names)) == len(names)
    assert len(set(keys)) == len(keys)
    module, _, function = verb.entry.partition(":")
    assert callable(getattr(importlib.import_module(f"wasm_shim.cli.{module}"), function))
    sentences = [option.help for option in verb.options] + [argument.help for argument in verb.arguments]
    assert all(sentence.endswith(".") for sentence in (verb.summary, *sentences))


# What is loaded


@pytest.mark.parametrize("module", ["quick", "app", "run", "references"])
def test_quick_verbs_load_little(module: str) -> None:
    """Neither the door nor the quick parser nor `run` imports what takes long, also for an image that it knows."""
    heavy = "{'typer', 'rich', 'click', 'asyncio', 'wasmtime', 'google', 'oras', 'requests', 'dataclasses'}"
    code = f"import sys; import wasm_shim.cli.{module}; print(sorted({heavy} & set(sys.modules)))"
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"
