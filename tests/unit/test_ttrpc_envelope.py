"""How a failure is written: one printable line of bounded length, whatever it quotes."""

from wasm_shim.ttrpc.envelope import Code, Response, failure


def said(message: str) -> str:
    """What the peer reads."""
    response = Response.decode(failure(Code.NOT_FOUND, message).encode())
    assert response.status
    assert response.status.code == Code.NOT_FOUND
    return response.status.message


def test_plain_messages_stay() -> None:
    """Letters of all scripts are printable."""
    assert said("no task ünï 码; create it first") == "no task ünï 码; create it first"


def test_what_does_not_print_is_escaped() -> None:
    """Control characters and surrogates, which UTF-8 cannot hold."""
    assert said("a\nb\0c\udcff\x1b[1m") == "a\\nb\\x00c\\udcff\\x1b[1m"


def test_long_messages_are_cut() -> None:
    """A client that sends megabytes does not get them back."""
    assert said("x" * 4_000_000) == "x" * 1500 + "…"
