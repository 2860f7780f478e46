"""Writes docs/large_catalogues.md from files that two benchmarks wrote.

python -m benchmarks.large_catalogues
cp benchmarks/results/large_catalogues.json docs/performance/
MQSA_DATA_DIR=DATA python -m benchmarks.sampled_toys
python docs/build_large_catalogues.py
"""

from typing import Any

from page_parts import DOCS, load, made_by, table, text

PAGE = DOCS / "large_catalogues.md"


def steps() -> str:
    """Time and memory of a step against the number of items."""
    result = load("large_catalogues")
    if not result:
        return ""
    rows = [
        [
            f"{row['items']:,}",
            row["loss"],
            f"{row['step_ms']:,.0f}",
            f"{row['cpu_ms']:,.0f}",
            f"{row['temp_mib']:,.0f}",
            "" if row["loss"] == "full" else f"1 / {1 / row['times_full']:.1f}",
        ]
        for row in result["rows"]
    ]
    heads = ["Items", "Loss", "ms a step", "ms of processors", "Temporary MiB", "Of the full loss"]
    sizes = result["sizes"]
    facts = (
        f"{sizes['positions']:,} positions, D = {sizes['dim']}, {result['num_negatives']:,} "
        "negatives, 8 transitions an item. Steps run one after the other in one program, as in "
        "training. Ratios are of processor time, for other work ran on the machine."
    )
    made = made_by(result, "python -m benchmarks.large_catalogues")
    return "\n\n".join(["## A step", facts, table(heads, rows), made])


def toys() -> str:
    """Validation and full losses against the number of negatives."""
    results = load("sampled_toys")
    if not results:
        return ""
    order = sorted(results, key=lambda name: (name != "full", _negatives(results[name]), name))
    rows = [
        [
            name,
            str(one["best epoch"]),
            f"{one['loss_rec']:.3f}",
            f"{one['loss_kd']:.3f}",
            f"{one['valid NDCG@20']:.4f}",
            f"{one['test']['NDCG@20']:.4f}",
            f"{one['test']['HR@20']:.4f}",
            one["provenance"]["commit"],
        ]
        for name, one in ((name, results[name]) for name in order)
    ]
    heads = [
        *("Loss, negatives", "Best epoch", "Full ranking loss", "Full distillation loss"),
        *("Validation NDCG@20", "Test NDCG@20", "Test HR@20", "Commit"),
    ]
    first = results[order[0]]
    facts = (
        f"MQSA-TED, seed {first['seed']}, {first['epochs']} epochs. The full losses are "
        "those of the trained model over all items, whatever it was trained on: in the first steps "
        "of an epoch, with dropout. Test by full ranking."
    )
    # Each row has a commit of its own.
    machine = {"machine": first["provenance"]["machine"]}
    made = made_by({**first, "provenance": machine}, "python -m benchmarks.sampled_toys")
    return "\n\n".join(["## Toys", facts, table(heads, rows), made])


def _negatives(result: dict[str, Any]) -> tuple[bool, bool, int]:
    flags = result["flags"]
    kind = flags.get("ranking_loss") == "gbce", flags.get("lazy_adam", False)
    return (*kind, flags.get("num_negatives", 1024))


def build() -> str:
    """The page."""
    return "\n\n".join(filter(None, [text("large_catalogues"), toys(), steps()])) + "\n"


if __name__ == "__main__":
    PAGE.write_text(build())
