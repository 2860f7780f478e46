"""The results page is what report.py makes of the files kept: no number is typed by hand."""

from pathlib import Path

from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.report import read_study

DOCS = Path(__file__).parents[1] / "docs"


def test_page_is_up_to_date():
    study = read_study(DOCS / "results" / "benchmarks", DOCS)
    assert (DOCS / "results.md").read_text() == build_page(study, DOCS / "results" / "parts")
    drawn = {path.stem for path in (DOCS / "results" / "figures").glob("*.png")}
    assert drawn == {chart.name for chart in study.charts}
