"""apt sources of another Debian suite, from those that this machine is configured with."""

import re
from collections.abc import Iterator
from pathlib import Path

_ONE_LINE = re.compile(r"deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<address>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")
_FIELD = re.compile(r"^(?P<name>[\w-]+):\s*(?P<value>.*)$", re.MULTILINE)


class NoArchive(Exception):
    """apt is not configured for Debian's archive; the message says so."""


def write_sources(suite: str, target: Path, etc: Path = Path("/etc")) -> None:
    """Write sources of `suite` into the directory `target`, in the machine's own formats.

    Only what names this Debian's own suite and `main` is taken: others' repositories, the security archive and
    updates have no other suites or none that is needed. Raises NoArchive.
    """
    own = {_codename(etc), "stable", "testing", "unstable", "sid"}
    found = {
        "debian.list": [line for file in _files(etc, "list") for line in _one_line(file, own, suite)],
        "debian.sources": [stanza for file in _files(etc, "sources") for stanza in _stanzas(file, own, suite)],
    }
    if not any(found.values()):
        raise NoArchive(f"no source in {etc}/apt is Debian's own archive")
    for name, parts in found.items():
        (target / name).write_text("".join(f"{part}\n\n" for part in dict.fromkeys(parts)), encoding="utf-8")


def _codename(etc: Path) -> str:
    try:
        text = (etc / "os-release").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?([\w-]+)', text, re.MULTILINE)
    return found.group(1) if found else ""


def _files(etc: Path, suffix: str) -> list[str]:
    """The text of each configured file of this suffix; apt ignores others."""
    parts = sorted((etc / "apt/sources.list.d").glob(f"*.{suffix}"))
    alone = [etc / "apt/sources.list"] if suffix == "list" else []
    return [path.read_text(encoding="utf-8") for path in [*alone, *parts] if path.is_file()]


def _one_line(text: str, own: set[str], suite: str) -> Iterator[str]:
    """sources.list(5), one-line style, each with the other suite."""
    for line in text.splitlines():
        found = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if found and found["suite"] in own and "main" in found["components"].split():
            yield f"deb {found['options'] or ''}{found['address']} {suite} main"


def _stanzas(text: str, own: set[str], suite: str) -> Iterator[str]:
    """sources.list(5), deb822 style, each with the other suite."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", plain):
        fields = {found["name"].lower(): found["value"].split() for found in _FIELD.finditer(stanza)}
        ours = own & set(fields.get("suites", [])) and "main" in fields.get("components", [])
        if ours and "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            values = {"Suites": suite, "Components": "main", "Types": "deb"}
            for name, value in values.items():
                stanza = re.sub(rf"^{name}:.*$", f"{name}: {value}", stanza, flags=re.MULTILINE | re.IGNORECASE)
            yield stanza.strip()
