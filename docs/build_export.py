"""Writes docs/export.md from its text and the file that a benchmark wrote.

python -m benchmarks.item_index
cp benchmarks/results/item_index.json docs/performance/
python docs/build_export.py
"""

import json
import shlex
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE = DOCS / "export.md"
TEXT = DOCS / "performance" / "export_text.md"
HEADS = {
    "items": "Items",
    "lists": "Lists",
    "recall@20": "Recall@20",
    "ms": "ms a list",
    "ms of processors": "ms of processors",
    "ms of processors, 256 at a time": "ms of processors, 256 lists at a time",
    "build, s of processors": "Built in s of processors",
    "MiB": "File, MiB",
}
"""Heads of columns, by the names in the benchmark's file."""


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def indexes(result: dict[str, Any]) -> str:
    """Recall and latency of approximate lists beside exact ones."""
    rows = [[_cell(row.get(key)) for key in HEADS] for row in result["rows"]]
    made, versions = result["provenance"], result["versions"]
    command = shlex.join(["python", "-m", "benchmarks.item_index", *made["command"][1:]])
    facts = (
        f"Lists of {result['top']} items after histories of {result['history']}, encoder and "
        "transition term included, by the code that `recommend` runs. Item vectors are drawn, not "
        "trained: clusters of 100 items, 64 wide, lengths log-normal; user vectors are normalised "
        "means of the latest items' vectors. Recall is the share of the exact list that the other "
        "holds. Other work ran on the machine, so compare processor times."
    )
    source = (
        f"`{command}`, commit {made['commit']}, {made['machine']}, python {versions['python']}, "
        f"jax {versions['jax']}."
    )
    return "\n\n".join([facts, table(list(HEADS.values()), rows), source])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def build() -> str:
    """The page."""
    result = json.loads((DOCS / "performance" / "item_index.json").read_text())
    return "\n\n".join([TEXT.read_text().strip(), indexes(result)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
