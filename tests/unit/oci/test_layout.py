"""The layout on disk keeps the contract of stores; what it makes of directories, other tools' entries and damage."""

from pathlib import Path

import pytest

from oci.layout import Layout
from tests.contracts.stores import StoreContract


class TestLayout(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Layout:
        return Layout.create(tmp_path / "layout")
