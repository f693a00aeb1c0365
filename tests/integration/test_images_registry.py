"""`push`, `pull`, `login` and `logout`: what they say, two at once, and registries that are not as they should be."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.images import blobs, digest_of, new_name, ran, said, store
from tests.integration.support import (
    DEADLINE,
    Environment,
    on_terminal,
    read_to_end,
    refusal,
    started,
    wait_for,
    wasm_shim,
)
from tests.registry.artifact import BLOB, LAYER, MANIFEST, except_for, good
from tests.registry.certificates import Certificate
from tests.registry.scripted import Asked, Scripted, reply
from tests.registry.server import PASSWORD, USER, RegistryServer

Guest = Callable[[str], Path]
KIT = "kit_p1.wasm"
LOGIN = ["login", "-u", USER, "--password-stdin"]


def refused(home: Environment, *words: str | Path, **options: Any) -> str:
    """Why words are refused, with our exit code and nothing on stdout."""
    done = wasm_shim(home, *words, **options)
    assert (done.returncode, done.stdout) == (125, ""), done
    return refusal(done)


@pytest.fixture
def reference(plain_registry: RegistryServer) -> str:
    """A name of the test's own."""
    return new_name(plain_registry)


# What is said


def test_push_and_pull_say_the_digest(home: Environment, guest: Guest, reference: str) -> None:
    pushed = said(home, "push", guest(KIT), reference)
    digest = digest_of(pushed)
    assert pushed == [f"Digest: {digest}", f"Pushed: {reference}"]
    assert said(home, "pull", reference) == [f"Digest: {digest}", f"Pulled: {reference}"]
    assert said(home, "pull", reference) == [f"Digest: {digest}", f"Up to date: {reference}"]
    assert said(home, "pull", "-q", reference) == said(home, "push", "-q", guest(KIT), reference) == [digest]


def test_an_image_is_pushed_from_the_store(home: Environment, guest: Guest, reference: str) -> None:
    digest = digest_of(said(home, "pack", "-t", reference, guest(KIT)))
    assert said(home, "push", reference) == [f"Digest: {digest}", f"Pushed: {reference}"]
    said(home, "rmi", reference)
    assert ran(home, reference, "args")[1:] == ["arg args"]
    assert "--layout is for packing, and no FILE is given" in refused(home, "push", "--layout", "image", reference)


def test_push_of_a_file_needs_a_place(home: Environment, guest: Guest) -> None:
    assert refused(home, "push", guest(KIT)).startswith("missing argument REF, which says where to")


def test_push_refuses_another_digest(home: Environment, guest: Guest, reference: str) -> None:
    """A name with a digest is for just that content."""
    name = f"{reference}@sha256:{'0' * 64}"
    assert "has another digest than what is pushed, sha256:" in refused(home, "push", guest(KIT), name)
    assert "a new image gets its own" in refused(home, "pack", "-t", f"a@sha256:{'0' * 64}", guest(KIT))


def test_explain_looks_into_the_registry(home: Environment, guest: Guest, reference: str) -> None:
    """What is not here is not pulled for it."""
    said(home, "push", guest(KIT), reference)
    assert said(home, "image", "explain", reference)[0] == f"{reference}: CNCF Wasm artifact"
    assert blobs(home) == set()


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_bars_are_for_terminals(home: Environment, reference: str, tmp_path: Path, verb: str) -> None:
    """On stderr, and gone at the end; with -q there are none."""
    program = tmp_path / "large.wasm"
    program.write_bytes(b"\0asm\1\0\0\0" + _custom_section(4 << 20))
    said(home, "push", program, reference)
    words = {"pull": ["pull", reference], "push": ["push", str(program), reference.replace(":1", ":2")]}[verb]
    with on_terminal({**home, "TERM": "xterm"}, *words, stdout=subprocess.PIPE) as (process, terminal):
        assert "━".encode() in read_to_end(terminal)
        assert process.stdout
        assert process.stdout.read().startswith(b"Digest: ")
        assert process.wait(DEADLINE) == 0
    with on_terminal(home, words[0], "-q", *words[1:], stdout=subprocess.PIPE) as (process, terminal):
        assert read_to_end(terminal) == b""


def _custom_section(size: int) -> bytes:
    content = b"\1x" + os.urandom(size)
    length, rest = bytearray(), len(content)
    while rest >= 128:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([0, *length, rest]) + content


# At once, and interrupted


@pytest.mark.parametrize("verb", ["pull", "push", "run"])
def test_two_at_once(home: Environment, guest: Guest, reference: str, verb: str) -> None:
    """Both go well, and the store is whole."""
    said(home, "push", guest(KIT), reference)
    all_words: dict[str, list[str | Path]] = {
        "pull": ["pull", reference],
        "push": ["push", guest(KIT), reference],
        "run": ["run", "--rm", reference, "args"],
    }
    words = all_words[verb]
    with started(home, *words) as first, started(home, *words) as second:
        for process in (first, second):
            assert process.communicate(timeout=DEADLINE)[0]
        assert (first.returncode, second.returncode) == (0, 0)
    assert ran(home, reference, "args")[1:] == ["arg args"]
    assert [path for path in store(home).rglob(".partial/*") if path.is_file()] == []


def test_an_interrupted_pull_leaves_no_image(home: Environment, bad_server: Scripted) -> None:
    """Nothing has a name, no blob is there in part, and the next pull completes."""
    reference = f"{bad_server.host}/slow:1"
    head, body = good(Asked("GET", f"/v2/slow{BLOB}", {}, b""))
    bad_server.answer = except_for(BLOB, lambda _: bad_server.drip([head + body[:100_000], body[100_000:]], 60))
    with started(home, "pull", reference, stderr=subprocess.PIPE) as process:
        _wait_for_request(bad_server, BLOB)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert process.stderr
        assert process.stderr.read() == b""
    assert said(home, "images", "-q") == []
    assert all(path.stat().st_size < len(LAYER) for path in blobs(home))
    bad_server.answer = good
    assert said(home, "pull", reference)[0] == f"Digest: {MANIFEST.descriptor.digest}"


def _wait_for_request(server: Scripted, part: str) -> None:
    while not any(part in path for path in server.paths("GET")):
        server.ended.wait(0.01)


# Who may


def test_login_and_logout(home: Environment, guest: Guest, password_registry: RegistryServer, tmp_path: Path) -> None:
    """With DOCKER_CONFIG: a file of mode 0600, whose password goes on and off the line to the registry."""
    user = {**home, "DOCKER_CONFIG": str(tmp_path / "docker")}
    reference, host, file = new_name(password_registry), password_registry.host, tmp_path / "docker/config.json"
    assert "log in first" in refused(user, "push", guest(KIT), reference)
    assert said(user, *LOGIN, host, input=f"{PASSWORD}\n") == [f"Logged in to {host}; the password is in {file}"]
    assert file.stat().st_mode & 0o777 == 0o600
    said(user, "push", guest(KIT), reference)
    assert ran(user, reference, "args")[1:] == ["arg args"]
    assert said(user, "logout", host) == [f"Logged out of {host}; it is no longer in {file}"]
    assert json.loads(file.read_text()).get("auths", {}) == {}
    assert said(user, "logout", host) == [f"Not logged in to {host}"]
    assert "log in first" in refused(user, "pull", reference)


def test_a_wrong_password_is_not_stored(home: Environment, password_registry: RegistryServer) -> None:
    refused(home, *LOGIN, password_registry.host, input="wrong")
    assert list(Path(home["HOME"]).rglob("config.json")) == []


def test_login_asks_on_a_terminal(home: Environment, password_registry: RegistryServer) -> None:
    """The password is not shown."""
    with on_terminal(home, "login", password_registry.host) as (process, terminal):
        wait_for(terminal, b"User name: ")
        os.write(terminal, f"{USER}\n".encode())
        wait_for(terminal, b"Password: ")
        os.write(terminal, f"{PASSWORD}\n".encode())
        rest = read_to_end(terminal)
        assert process.wait(DEADLINE) == 0
    assert PASSWORD.encode() not in rest
    assert b"Logged in to" in rest


@pytest.mark.parametrize(
    ("words", "given", "reason"),
    [
        (["--password-stdin"], "x", "--password-stdin needs a user name; give it with -u USER"),
        (["-u", "a"], "x", "there is no terminal to ask for the password; give it with --password-stdin"),
        (["-u", "a", "--password-stdin"], "", "the password is empty"),
        (["-u", "a:b", "--password-stdin"], "x", "colon"),
    ],
)
def test_login_says_what_is_missing(
    home: Environment, plain_registry: RegistryServer, words: list[str], given: str, reason: str
) -> None:
    assert reason in refused(home, "login", *words, plain_registry.host, input=given)


# How it is spoken to


def test_plain_http_is_for_this_machine(home: Environment, guest: Guest, plain_registry: RegistryServer) -> None:
    """Another address gets TLS, unless one says otherwise: 0.0.0.0 leads here, but is no address of this machine."""
    reference = f"0.0.0.0:{plain_registry.port}/cli/plain:1"
    reason = refused(home, "push", guest(KIT), reference)
    assert "allow plain HTTP" in reason
    said(home, "push", "--plain-http", guest(KIT), reference)
    refused(home, "run", reference)
    assert said(home, "run", "--rm", "--plain-http", reference, "args")[1:] == ["arg args"]


def test_a_private_authority(
    home: Environment, guest: Guest, tls_registry: RegistryServer, own_authority: Certificate, tmp_path: Path
) -> None:
    reference = new_name(tls_registry)
    assert "is not trusted" in refused(home, "push", guest(KIT), reference)
    trusted = ["--ca-file", str(own_authority.certificate)]
    said(home, "push", *trusted, guest(KIT), reference)
    assert said(home, "run", "--rm", *trusted, reference, "args")[1:] == ["arg args"]
    assert "none.pem" in refused(home, "pull", "--ca-file", tmp_path / "none.pem", reference)


def _redirect(_: Asked) -> Iterable[bytes]:
    return reply(307, Location="http://10.255.255.1/elsewhere")


BAD: dict[str, tuple[str, Callable[[Asked], Iterable[bytes]]]] = {
    "another program": (BLOB, lambda _: reply(200, bytes(len(LAYER)))),
    "too little": (BLOB, lambda _: reply(200, LAYER[:-1])),
    "no manifest": ("/manifests", lambda _: reply(200, b"<html>", Content_Type="text/html")),
    "a redirect to elsewhere": (BLOB, _redirect),
    "no right": ("/manifests", lambda _: reply(403)),
    "nothing there": ("/manifests", lambda _: reply(404)),
}


@pytest.mark.parametrize("verb", ["pull", "run"])
@pytest.mark.parametrize("how", BAD)
def test_a_bad_registry_gets_one_line(home: Environment, bad_server: Scripted, how: str, verb: str) -> None:
    part, answer = BAD[how]
    bad_server.answer = except_for(part, answer)
    refused(home, verb, f"{bad_server.host}/bad:1")
    assert said(home, "images", "-q") == []


def test_nobody_listens(home: Environment) -> None:
    assert "refused" in refused(home, "pull", "localhost:1/a:1")
