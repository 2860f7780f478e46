"""The performance page is what its script makes of the benchmarks' files: no number by hand."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location(
        "build_performance", DOCS / "build_performance.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "performance.md").read_text() == module.build()
