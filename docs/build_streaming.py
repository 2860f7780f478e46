"""Writes docs/streaming.md from what a benchmark wrote.

python -m benchmarks.streamed --users 2000000 --items 1000000 --batch-size 1024 \
    --folder runs/streamed -- --ranking-loss sampled --lazy-adam
cp benchmarks/results/streamed.json docs/performance/
python docs/build_streaming.py
"""

import shlex

from page_parts import DOCS, load, made_by, table, text

PAGE = DOCS / "streaming.md"
STAGES = {
    "write": "write the prepared folder",
    "read": "count transitions and take an epoch of batches, without training",
    "train": "train one epoch and test it",
    "evaluate": "test it again (`eval`)",
    "recommend": "make lists (`recommend`)",
}


def figures() -> str:
    """Seconds and memory of every stage."""
    result = load("streamed")
    rows = [
        [STAGES[row["stage"]], f"{row['seconds']:,.0f}", f"{row['peak_mib']:,.0f}"]
        for row in result["rows"]
    ]
    read = next(row for row in result["rows"] if row["stage"] == "read")
    facts = (
        f"{result['items']:,} items and {result['users']:,} generated users, whose histories have "
        f"5 items and more, 10 on average: {result['data_mib']:,.0f} MiB of Parquet, "
        f"{read['transitions']:,} transitions counted. {result['batch_size']:,} users a step, "
        f"`{result['flags']}`; {result['eval_users']:,} users are tested, and as many get lists. "
        "Every stage is a process of its own; memory is the most that it held at a time, with its "
        "children. Other work ran on the machine, so seconds are upper bounds."
    )
    command = shlex.join(
        ["python", "-m", "benchmarks.streamed", *result["provenance"]["command"][1:]]
    )
    heads = ["Stage", "Seconds", "Memory, MiB"]
    return "\n\n".join(["## Figures", facts, table(heads, rows), made_by(result, command)])


def build() -> str:
    """The page."""
    return "\n\n".join([text("streaming"), figures()]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
