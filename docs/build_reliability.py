"""Writes docs/reliability.md from what the fault script wrote.

python -m benchmarks.faults
cp benchmarks/results/faults.json docs/performance/
python docs/build_reliability.py
"""

import json
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "reliability.md"
TEXT = DOCS / "performance" / "reliability_text.md"
FILE = DOCS / "performance" / "faults.json"
HEADS = {
    "processes": "processes",
    "sigkill": "SIGKILL",
    "sigterm": "SIGTERM",
    "within_a_save": "of them within a save",
    "flips": "bits flipped",
    "gone_back": "went back to an earlier checkpoint",
    "refused": "refused until the bit was put back",
    "slowest_end_seconds": "slowest end, s",
    "identical": "parameters, history and ranks bit-identical",
}


def table(rows: list[dict]) -> str:
    """A Markdown table of the runs."""
    body = [[_cell(row[name]) for name in HEADS] for row in rows]
    lines = [list(HEADS.values()), ["---"] * len(HEADS), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def build() -> str:
    """The page."""
    result = json.loads(FILE.read_text())
    made = result["provenance"]
    command = " ".join(["python -m benchmarks.faults", *made["command"][1:]])
    facts = (
        f"`{command}`, seed {result['seed']}, commit {made['commit']}, {made['machine']}, jax "
        f"{result['versions']['jax']}. Each row is a run, ended that often and gone on with."
    )
    parts = [TEXT.read_text().strip(), "## Ended and damaged", facts, table(result["rows"])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
