"""Writes docs/reliability.md from what the fault script and the serving benchmark wrote.

python -m benchmarks.faults
python -m benchmarks.serving --model exports/toys
cp benchmarks/results/{faults,serving_toys}.json docs/performance/
python docs/build_reliability.py
"""

from typing import Any

from page_parts import DOCS, load, made_by, table, text

PAGE = DOCS / "reliability.md"
FAULT_HEADS = {
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
LOAD_HEADS = {
    "load": "load",
    "answered_per_second": "answers/s",
    "p50_ms": "median, ms",
    "p99_ms": "p99, ms",
    "p999_ms": "p99.9, ms",
    "answers": "answers",
    "errors": "errors",
    "lost": "lost",
    "cpu_ms_an_answer": "CPU of the server, ms an answer",
    "load_average": "load average",
}


def table_of(rows: list[dict[str, Any]], heads: dict[str, str]) -> str:
    """A table of the rows; `heads` has the title of each column."""
    return table(list(heads.values()), [[_cell(row[name]) for name in heads] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 1 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def made(result: dict[str, Any], script: str) -> str:
    """The command that made a result, and where."""
    flags = result["provenance"]["command"][1:]
    return made_by(result, " ".join([f"python -m benchmarks.{script}", *flags]))


def malformed(bad: dict[str, Any]) -> str:
    """What became of malformed requests."""
    statuses = ", ".join(f"{count:,} × {status}" for status, count in bad["statuses"].items())
    return (
        f"{bad['requests']:,} malformed requests of {bad['kinds']} kinds, seed {bad['seed']}: "
        f"{statuses}; {bad['without_reason']} without a reason. The server held "
        f"{bad['memory_mib_before']:,.0f} MiB before them and {bad['memory_mib_after']:,.0f} MiB "
        "after."
    )


def build() -> str:
    """The page."""
    faults, serving = load("faults"), load("serving_toys")
    ended = (
        f"{made(faults, 'faults')} Seed {faults['seed']}. Each row is a run, ended that often and "
        "gone on with."
    )
    loads = (
        f"{made(serving, 'serving')} Latencies and rates are medians of {serving['repeats']} "
        f"repeats of {serving['seconds']:g} s, counts are sums; the load came from the same "
        "machine."
    )
    parts = [
        text("reliability"),
        "## Ended and damaged",
        ended,
        table_of(faults["rows"], FAULT_HEADS),
        text("served"),
        loads,
        table_of(serving["rows"], LOAD_HEADS),
        f"{malformed(serving['malformed'])} Exit code after SIGTERM: {serving['exit_code']}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
