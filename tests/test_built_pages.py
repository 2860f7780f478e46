"""Pages with figures are what their scripts make of the benchmarks' files."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


NAMES = ["attributes", "export", "large_catalogues", "reliability", "scaling", "streaming"]


@pytest.mark.parametrize("name", [f"build_{name}" for name in NAMES])
def test_page_is_up_to_date(name, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.build()
