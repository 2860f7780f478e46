"""Results as a table on the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mqsa_jax.losses.metrics import CUTOFFS


def print_result(dataset: str, result: dict[str, Any], folder: Path) -> None:
    """Prints what was measured, HR and NDCG at all cutoffs, MRR, and where the files lie."""
    table = Table("", *(f"@{k}" for k in CUTOFFS))
    for name in ("HR", "NDCG"):
        table.add_row(name, *(f"{result[f'{name}@{k}']:.4f}" for k in CUTOFFS))
    print(
        f"{dataset}, {result['split']} split, epoch {result['epoch']}: {result['users']} users, "
        f"all {result['items']} items ranked, items seen excluded: {result['exclude_seen']}"
    )
    if result["untrained_targets"]:
        print(
            f"Of {result['users']} targets {result['untrained_targets']} never occur in training: "
            "no model can have learned them"
        )
    Console().print(table)
    print(f"MRR, without a cutoff: {result['MRR']:.4f}")
    print(f"Results in {folder}")
