"""What surprised the first users and reviewers: grants of /proc, inherited limits, odd names, files that vanish."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import Environment, started, wait_ready, wasm_shim
from wasm_shim.cli.output import CANNOT_RUN, OURS

Guest = Callable[[str], Path]


@pytest.mark.parametrize("source", ["/proc", "/proc/self", "/sys", "/dev", "/"])
def test_kernel_file_systems_are_never_shown(home: Environment, guest: Guest, source: str) -> None:
    """No grant brings /proc/self/mem and the like into a guest's tree: that is the way out of the Wasm wall."""
    done = wasm_shim(home, "run", "--rm", "-v", f"{source}:/x:ro", guest("kit_p1.wasm"), "ls", "/x")
    assert (done.returncode, done.stdout) == (CANNOT_RUN, "")
    assert "it holds the kernel's own files" in done.stderr


def test_limits_are_those_of_the_caller(home: Environment, guest: Guest) -> None:
    """A caller's limits hold for its guest, and not for those of later callers."""
    spin = f"ulimit -t 1; exec wasm-shim run --rm {guest('kit_p1.wasm')} spin"
    assert wasm_shim(home, "run", "--rm", guest("hello.wat")).returncode == 0
    limited = subprocess.run(["sh", "-c", spin], env=home, capture_output=True, timeout=30, check=False)
    assert limited.returncode in (128 + signal.SIGXCPU, 128 + signal.SIGKILL)
    assert wasm_shim(home, "run", "--rm", guest("kit_p1.wasm"), "sleep", "1500").returncode == 0


def test_idle_time_that_is_no_number_is_told(home: Environment, guest: Guest) -> None:
    """A wrong WASM_SHIM_ZYGOTE_IDLE gets a sentence."""
    done = wasm_shim(home | {"WASM_SHIM_ZYGOTE_IDLE": "soon"}, "run", "--rm", guest("hello.wat"))
    assert done.returncode == OURS
    assert "WASM_SHIM_ZYGOTE_IDLE is no number; set it to seconds" in done.stderr


def test_names_in_a_program_cannot_command_the_terminal(home: Environment, tmp_path: Path) -> None:
    """Control characters in import names are shown, not obeyed."""
    path = tmp_path / "evil.wat"
    path.write_text(r'(module (import "a\1b]0;title\07" "b\0ac" (func)))')
    for done in (wasm_shim(home, "wit", path), wasm_shim(home, "run", "--rm", path)):
        said = done.stdout + done.stderr
        assert r"a\x1b]0;title\x07" in said
        assert not any(ord(character) < 32 and character != "\n" for character in said)


def test_socket_that_vanishes_does_not_hang_the_end(home: Environment, guest: Guest) -> None:
    """When the runtime directory is tidied up under a running container, it still ends as it should."""
    with started(home, "run", "--rm", "-i", guest("kit_p1.wasm"), "block", stdin=subprocess.PIPE) as process:
        wait_ready(process)
        runtime = Path(home["XDG_RUNTIME_DIR"], "wasm-shim")
        [path] = [path for path in runtime.iterdir() if len(path.name) == 12]
        path.unlink()
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_caller_that_ignores_its_children_is_served(home: Environment, guest: Guest) -> None:
    """An inherited SIGCHLD of SIG_IGN keeps neither run nor compile from waiting for their processes."""
    for words in (["compile", guest("addition.wat")], ["run", "--rm", guest("hello.wat")]):
        done = subprocess.run(
            ["sh", "-c", 'trap "" CHLD; exec wasm-shim "$@"', "sh", *map(str, words)],
            env=home, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_deleted_directory_is_told(home: Environment, tmp_path: Path) -> None:
    """From a directory that is gone, a relative path gets one line and no traceback."""
    command = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec wasm-shim run ./x.wasm"
    done = subprocess.run(["sh", "-c", command], env=home, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (OURS, 127)
    assert done.stderr.count("\n") == 1
    assert os.linesep + "  File" not in done.stderr


def test_loose_cache_entry_is_compiled_anew(home: Environment, guest: Guest) -> None:
    """Precompiled code that others could have read is not ours to trust: it is made again, not complained about."""
    assert wasm_shim(home, "run", "--rm", guest("hello.wat")).returncode == 0
    [code] = Path(home["XDG_CACHE_HOME"]).rglob("*.cwasm")
    code.chmod(0o644)
    assert wasm_shim(home, "run", "--rm", guest("hello.wat")).returncode == 0
    [code] = Path(home["XDG_CACHE_HOME"]).rglob("*.cwasm")
    assert code.stat().st_mode & 0o777 == 0o600
