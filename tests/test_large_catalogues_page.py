"""The page of large catalogues is what its script makes of the benchmarks' files."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_page_is_up_to_date():
    path = DOCS / "build_large_catalogues.py"
    spec = importlib.util.spec_from_file_location("build_large_catalogues", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.build()
