"""Rules about the source itself that ruff and import-linter cannot express."""

import ast
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
LONG_FILES: frozenset[str] = frozenset()  # none so far
PACKAGES = ("oci", "wasm_shim")
GENERATED = "wasm_shim/api/"
PRINTS = "wasm_shim/cli/output.py"

MACHINE_PATH = re.compile(r"(?<![\w.\-$}])/(?:root|work|home/(?!user\b)\w+|Users/\w+)(?:/|\b)")
BINARY_SUFFIXES = (".wasm", ".png", ".svg")
SLEEPS_AND_MOCKS = {"sleep", "mock", "Mock", "MagicMock", "AsyncMock", "patch"}


@cache
def project_files() -> tuple[str, ...]:
    """What is tracked or could be: every file that .gitignore does not name, relative to the root."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return tuple(sorted(name for name in set(listed.stdout.splitlines()) if (ROOT / name).is_file()))
    found = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(name for name in found if not name.startswith((".build/", ".git/"))))


def python_files() -> list[str]:
    """Our own Python files."""
    return [name for name in project_files() if name.endswith(".py") and not name.startswith(GENERATED)]


def product_files() -> list[str]:
    """Those that users get."""
    return [name for name in python_files() if name.startswith(PACKAGES)]


def read(name: str) -> str:
    """The text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def parse(name: str) -> ast.Module:
    """The syntax tree of a file of the project."""
    return ast.parse(read(name), name)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_files_are_short() -> None:
    lines = {name: read(name).count("\n") for name in python_files() if name not in LONG_FILES}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {f"{name}:{f.lineno} {f.name}": length(f) for name in python_files() for f in functions(parse(name))}
    assert {where: count for where, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}


def test_modules_have_docstrings() -> None:
    assert [name for name in python_files() if read(name).strip() and not ast.get_docstring(parse(name))] == []


def test_packages_are_packages() -> None:
    """The wheel leaves out a directory without __init__.py."""
    directories = {Path(name).parent.as_posix() for name in product_files()}
    assert [name for name in sorted(directories) if not (ROOT / name / "__init__.py").exists()] == []


def test_only_the_output_module_prints() -> None:
    def prints(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"

    printing = [name for name in product_files() if name != PRINTS and any(map(prints, ast.walk(parse(name))))]
    assert printing == []


def test_tests_neither_sleep_nor_mock() -> None:
    """Nor by a name that ruff's list of banned names does not know."""

    def names(tree: ast.Module) -> set[str]:
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        return attributes | imported

    found = {name: names(parse(name)) & SLEEPS_AND_MOCKS for name in python_files() if name.startswith("tests/")}
    assert {name: sorted(bad) for name, bad in found.items() if bad} == {}


def test_no_machine_paths() -> None:
    """No file names a place that exists on its author's machine only."""
    itself = Path(__file__).resolve().relative_to(ROOT).as_posix()
    texts = [name for name in project_files() if not name.endswith(BINARY_SUFFIXES) and name != itself]
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in texts
        for number, line in enumerate(read(name).splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.skipif("WASM_SHIM_TESTED_PACKAGES" not in os.environ, reason="only tests/run installs what is tested")
@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_package_is_tested(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(sysconfig.get_path("purelib"))
