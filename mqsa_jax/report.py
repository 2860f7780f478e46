"""Results as a table on the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mqsa_jax.inference.evaluation import CUTOFFS


def print_result(dataset: str, result: dict[str, Any], folder: Path) -> None:
    """Prints HR and NDCG at all cutoffs, MRR, and what they were measured on."""
    table = Table(
        title=f"{dataset}, {result['split']}: {result['users']} users, all {result['items']} items "
        f"ranked, excluded: {result['exclude_seen']}, epoch {result['epoch']}"
    )
    table.add_column("metric")
    for k in CUTOFFS:
        table.add_column(f"@{k}", justify="right")
    for name in ("HR", "NDCG"):
        table.add_row(name, *(f"{result[f'{name}@{k}']:.4f}" for k in CUTOFFS))
    table.caption = f"MRR {result['MRR']:.4f}   results in {folder}"
    Console().print(table)
