"""What the list of images says in few characters."""

import pytest

from oci.forms import Form
from wasm_shim.cli.images import layout_name, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"), (7, "7B"), (999, "999B"), (1000, "1kB"), (1234, "1.23kB"), (43_100, "43.1kB"), (999_499, "999kB"),
        (999_500, "1MB"), (1 << 30, "1.07GB"), (1_500_000_000_000, "1500GB"),
    ],
)  # fmt: skip
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert size_text(size) == text


def test_layouts_are_called_as_they_are_asked_for() -> None:
    """Others by the name of their form; always one word."""
    words = {form: layout_name(form) for form in Form}
    assert [words[form] for form in (Form.CNCF, Form.RUNWASI, Form.IMAGE)] == ["cncf", "runwasi", "image"]
    assert words[Form.WASM_TO_OCI] == "wasm-to-oci"
    assert all(word and " " not in word for word in words.values())
