"""The store in memory keeps the contract of stores."""

import pytest

from oci.errors import NotFound
from oci.memory import MemoryStore
from tests.contracts.stores import StoreContract, put


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_a_blob_is_no_manifest() -> None:
    store = MemoryStore()
    blob = put(store, b"program")
    with pytest.raises(NotFound, match="no manifest that can be read"):
        store.resolve(str(blob.digest))
