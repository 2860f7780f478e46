"""Few users a chunk."""

import pytest

from mqsa_jax.ops import chunk_loop
from tests.inference.evaluation_cases import CHUNK


@pytest.fixture
def small_chunks(monkeypatch):
    """Users come in chunks that they do not fill."""
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", CHUNK)
