"""Getting a program out of its artifact, and what hostile ones get."""

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oci.descriptor import Descriptor
from oci.errors import InvalidContent, NotFound, OciError, UnsupportedArtifact
from oci.extract import extract_program
from oci.memory import MemoryStore
from oci.program import find_program
from tests.unit.oci import forms
from tests.unit.oci.forms import COMMAND, FORMS, IMAGE_CONFIG, TAR, TAR_GZIP, image, layer, put
from tests.unit.oci.tars import archive, member

OTHER = COMMAND + b"\0\2\1x"  # the same with one more custom section


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def extracted(store: Any, descriptor: Descriptor) -> tuple[str, bytes]:
    out = io.BytesIO()
    name = extract_program(store, find_program(store, descriptor), out)
    return name, out.getvalue()


def with_rootfs(store: MemoryStore, *archives: bytes, kind: str = TAR, **settings: Any) -> Descriptor:
    settings = settings or {"Entrypoint": ["/app.wasm"]}
    return put(store, (IMAGE_CONFIG, image(**settings)), [layer(kind, data) for data in archives])


def refusal(store: MemoryStore, descriptor: Descriptor, kind: type[OciError] = UnsupportedArtifact) -> str:
    with pytest.raises(kind) as caught:
        extracted(store, descriptor)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("letter", FORMS)
def test_extracts_the_program_of_every_form(store: MemoryStore, letter: str) -> None:
    known = FORMS[letter]
    assert extracted(store, known.put(store)) == (known.name, known.program)


def test_text_is_handed_out_as_it_is(store: MemoryStore) -> None:
    text = b"(module)"
    assert extracted(store, with_rootfs(store, archive(member("app.wasm", text)))) == ("/app.wasm", text)


# Root file systems


def test_later_layers_win(store: MemoryStore) -> None:
    lower, upper = archive(member("app.wasm", COMMAND)), archive(member("x"), member("app.wasm", OTHER))
    assert extracted(store, with_rootfs(store, lower, upper))[1] == OTHER
    assert extracted(store, with_rootfs(store, lower, gzip.compress(upper), kind=TAR_GZIP))[1] == OTHER


def test_links_lead_to_the_program(store: MemoryStore) -> None:
    data = archive(
        member("opt/real.wasm", COMMAND),
        member("app.wasm", kind=tarfile.SYMTYPE, link="/hard.wasm"),
        member("hard.wasm", kind=tarfile.LNKTYPE, link="opt/real.wasm"),
    )
    assert extracted(store, with_rootfs(store, data, archive(member("x")))) == ("/app.wasm", COMMAND)


def test_links_do_not_lead_out_of_the_image(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "secret.wasm").write_bytes(COMMAND)
    for link in (str(tmp_path / "secret.wasm"), "../" * 30 + str(tmp_path / "secret.wasm")[1:]):
        data = archive(member("app.wasm", kind=tarfile.SYMTYPE, link=link))
        assert "there is no such file in it" in refusal(store, with_rootfs(store, data))


def test_nothing_is_created_on_the_disk(store: MemoryStore, tmp_path: Path) -> None:
    data = archive(
        member("app.wasm", COMMAND), member(f"{tmp_path}/absolute", b"x"), member(f"../..{tmp_path}/up", b"x"),
        member("link", kind=tarfile.SYMTYPE, link=str(tmp_path)), member("link/through", b"x"),
        member("device", kind=tarfile.CHRTYPE),
    )  # fmt: skip
    before = set(Path().iterdir())
    assert extracted(store, with_rootfs(store, data))[1] == COMMAND
    assert (list(tmp_path.iterdir()), set(Path().iterdir())) == ([], before)


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("/opt/app.wasm", {}),
        ("app.wasm", {"WorkingDir": "/opt"}),
        ("opt/app.wasm", {"WorkingDir": "/elsewhere"}),
        ("app.wasm", {"Env": ["A=b", "PATH=/bin:/opt"]}),
        ("../opt/app.wasm", {"WorkingDir": "/srv"}),
    ],
)
def test_looks_where_a_container_would(store: MemoryStore, argument: str, settings: dict[str, Any]) -> None:
    data = archive(member("opt/app.wasm", COMMAND), member("srv/", kind=tarfile.DIRTYPE))
    assert extracted(store, with_rootfs(store, data, Entrypoint=[argument], **settings))[1] == COMMAND


def test_looks_in_the_usual_directories(store: MemoryStore) -> None:
    data = archive(member("usr/local/bin/app.wasm", COMMAND))
    assert extracted(store, with_rootfs(store, data, Cmd=["app.wasm"])) == ("/usr/local/bin/app.wasm", COMMAND)


def test_an_image_that_names_nothing_is_its_only_wasm_file(store: MemoryStore) -> None:
    one = archive(member("README"), member("deep/in/it.wasm", COMMAND))
    assert extracted(store, with_rootfs(store, one, User="1")) == ("/deep/in/it.wasm", COMMAND)
    several = archive(member("a.wasm", OTHER), member("plugin.wasm", COMMAND))
    assert extracted(store, with_rootfs(store, several, User="1")) == ("/plugin.wasm", COMMAND)


# Refusals


def test_refuses_what_is_not_told_from_others(store: MemoryStore) -> None:
    data = archive(*(member(f"{name}.wasm", COMMAND) for name in "abcd"))
    assert refusal(store, with_rootfs(store, data, User="1")) == (
        "the image names no program and has 4 .wasm files ('/a.wasm', '/b.wasm', '/c.wasm'…); "
        "build it with an ENTRYPOINT"
    )
    assert refusal(store, with_rootfs(store, archive(member("bin/sh", b"x")), User="1")) == (
        "the image names no program, and no .wasm file is in it; it is no Wasm image"
    )


def test_refuses_an_image_without_the_file_that_it_starts(store: MemoryStore) -> None:
    hidden = [archive(member("app.wasm", COMMAND)), archive(member(".wh.app.wasm"))]
    expected = "the image starts '/app.wasm', but there is no such file in it; build it anew"
    assert refusal(store, with_rootfs(store, *hidden)) == expected
    assert refusal(store, with_rootfs(store, archive(member("x")))) == expected


def test_refuses_a_linux_container(store: MemoryStore) -> None:
    data = archive(member("bin/busybox", forms.NATIVE), member("bin/sh", kind=tarfile.SYMTYPE, link="busybox"))
    text = refusal(store, with_rootfs(store, data, Cmd=["/bin/sh", "-c", "echo"]))
    assert text.startswith(
        "'/bin/sh' in the image: not Wasm but a native program (ELF); is the image a Linux container image?"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (forms.NATIVE, "not Wasm but a native program (ELF)"),
        (b"\x7fELF\2\1\1\xc8" + bytes(100), "not Wasm but native code that wasmtime precompiled (.cwasm)"),
        (b"#!/bin/sh\n", "not Wasm but a script"),
        (gzip.compress(COMMAND, mtime=0), "not Wasm but a gzip archive; unpack it first"),
        (b"\0asm\7\0\0\0", "unknown Wasm version 7"),
        (b"\0asm", "truncated"),
    ],
)
def test_refuses_what_only_calls_itself_wasm(store: MemoryStore, data: bytes, expected: str) -> None:
    raw = put(store, (IMAGE_CONFIG, image()), [layer("application/wasm", data, "app.wasm")])
    assert refusal(store, raw).startswith(f"'app.wasm': {expected}")
    in_rootfs = with_rootfs(store, archive(member("app.wasm", data)))
    assert refusal(store, in_rootfs).startswith(f"'/app.wasm' in the image: {expected}")


def test_refuses_an_empty_file(store: MemoryStore) -> None:
    assert refusal(store, with_rootfs(store, archive(member("app.wasm")))) == (
        "'/app.wasm' in the image: the file is empty"
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(tarfile.DIRTYPE, "a directory"), (tarfile.CHRTYPE, "a character device"), (tarfile.FIFOTYPE, "a FIFO")],
)
def test_refuses_what_is_no_file(store: MemoryStore, kind: bytes, expected: str) -> None:
    text = refusal(store, with_rootfs(store, archive(member("app.wasm", kind=kind))))
    assert text == f"'/app.wasm' in the image is {expected}; it must name the program's file"


def test_refuses_zstd(store: MemoryStore) -> None:
    assert "zstd" in refusal(store, with_rootfs(store, b"\x28\xb5\x2f\xfd" + bytes(100), kind=f"{TAR}+zstd"))


def test_refuses_a_program_larger_than_wasm_can_be(store: MemoryStore) -> None:
    info = tarfile.TarInfo("app.wasm")
    info.size = 5 << 30
    huge = info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
    assert "cut off" in refusal(store, with_rootfs(store, huge), InvalidContent)
    program = find_program(store, put(store, (IMAGE_CONFIG, image()), [layer("application/wasm", COMMAND)]))
    assert program.layer is not None
    large = Descriptor(program.layer.media_type, program.layer.digest, 5 << 30)
    with pytest.raises(UnsupportedArtifact, match="no Wasm program has more than 4294967296"):
        extract_program(store, replace(program, layer=large), io.BytesIO())


# Damage and attacks

CUT = gzip.compress(archive(member("x", bytes(range(256)) * 20)))[:100]


class Changing:
    """A source whose every blob of a size has other bytes."""

    def __init__(self, store: MemoryStore, damaged: Descriptor, data: bytes) -> None:
        self._store, self._damaged, self._data = store, damaged, data

    def resolve(self, name: str) -> Descriptor:
        return self._store.resolve(name)

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        if descriptor.digest == self._damaged.digest:
            return iter([self._data])
        return self._store.read(descriptor, offset)


@pytest.mark.parametrize(
    ("put_form", "program"), [(forms.cncf, COMMAND), (forms.crun, forms.rootfs())], ids=["layer", "rootfs"]
)
def test_every_layer_is_verified(store: MemoryStore, put_form: Any, program: bytes) -> None:
    descriptor = put_form(store)
    damaged = Descriptor.of("", program)
    changed = program.replace(b"proc_exit", b"fd_write\0")
    for data, expected in ((changed, "damaged or replaced"), (program[:-1], "ends 1 bytes"), (program * 2, "longer")):
        with pytest.raises(InvalidContent, match=expected):
            extracted(Changing(store, damaged, data), descriptor)


def test_what_follows_the_program_in_its_layer_is_verified(store: MemoryStore) -> None:
    data = archive(member("app.wasm", COMMAND), member("x", b"1" * 5000))
    descriptor = with_rootfs(store, data)
    with pytest.raises(InvalidContent, match="damaged or replaced"):
        extracted(Changing(store, Descriptor.of("", data), data.replace(b"1" * 5000, b"2" * 5000)), descriptor)


def test_a_missing_layer_is_not_found(store: MemoryStore) -> None:
    descriptor = forms.cncf(MemoryStore())
    with pytest.raises(NotFound):
        find_program(store, descriptor)


@pytest.mark.parametrize("data", [b"no archive" * 100, gzip.compress(b"x" * 2000), CUT])
def test_a_damaged_layer_is_refused(store: MemoryStore, data: bytes) -> None:
    refusal(store, with_rootfs(store, data), InvalidContent)


def test_a_bomb_is_refused_soon(store: MemoryStore) -> None:
    info = tarfile.TarInfo("app.wasm")
    info.size = 3 << 30
    engine = zlib.compressobj(9, wbits=31)
    data = engine.compress(info.tobuf(tarfile.GNU_FORMAT) + COMMAND)
    data += b"".join(engine.compress(bytes(1 << 20)) for _ in range(150)) + engine.flush()
    assert "swells to more than 100 times" in refusal(store, with_rootfs(store, data, kind=TAR_GZIP), InvalidContent)


def test_a_large_program_is_not_held_in_memory(store: MemoryStore, tmp_path: Path) -> None:
    program = COMMAND + b"\0\x80\x80\x80\x20\1x" + bytes((64 << 20) - 2)
    descriptors = [
        put(store, (IMAGE_CONFIG, image()), [layer("application/wasm", program)]),
        with_rootfs(store, archive(member("app.wasm", program))),
    ]
    for descriptor in descriptors:
        with (tmp_path / "out").open("wb") as out:
            tracemalloc.start()
            extract_program(store, find_program(store, descriptor), out)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert (tmp_path / "out").read_bytes() == program
        assert peak < 8 << 20
