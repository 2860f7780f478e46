"""Pages with figures are what their scripts make of the benchmarks' files."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    "name", ["build_export", "build_large_catalogues", "build_reliability", "build_scaling"]
)
def test_page_is_up_to_date(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.build()
