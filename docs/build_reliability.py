"""Writes docs/reliability.md from what the fault script wrote.

python -m benchmarks.faults
cp benchmarks/results/faults.json docs/performance/
python docs/build_reliability.py
"""

from page_parts import DOCS, load, made_by, table, text

PAGE = DOCS / "reliability.md"
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


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def build() -> str:
    """The page."""
    result = load("faults")
    command = " ".join(["python -m benchmarks.faults", *result["provenance"]["command"][1:]])
    facts = (
        f"{made_by(result, command)[:-1]}, seed {result['seed']}. Each row is a run, ended that "
        "often and gone on with."
    )
    rows = [[_cell(row[name]) for name in HEADS] for row in result["rows"]]
    parts = [text("reliability"), "## Ended and damaged", facts, table(list(HEADS.values()), rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
