"""Results as a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mqsa_jax.losses.metrics import CUTOFFS

LIST_METRICS = {
    "coverage": ("coverage of the items", ".4f"),
    "novelty": ("novelty, bits", ".3f"),
    "popularity": ("popularity, training users", ".1f"),
    "gini": ("Gini of recommendations", ".4f"),
    "diversity": ("diversity within a list", ".4f"),
}
"""Rows of the table of lists, and the format of their numbers."""


def print_result(
    dataset: str, result: dict[str, Any], folder: Path, cutoffs: Sequence[int] = CUTOFFS
) -> None:
    """Prints what was measured, HR and NDCG at the cutoffs, MRR, and where the files lie."""
    table = Table("", *(f"@{k}" for k in cutoffs))
    for name in ("HR", "NDCG"):
        table.add_row(name, *(f"{result[f'{name}@{k}']:.4f}" for k in cutoffs))
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
    if "beyond_accuracy" in result:
        _print_beyond_accuracy(result["beyond_accuracy"], cutoffs)
    print(f"Results in {folder}")


def _print_beyond_accuracy(values: dict[str, Any], cutoffs: Sequence[int]) -> None:
    """Prints a table of list metrics, and one of groups of users at the largest cutoff."""
    table = Table("", *(f"@{k}" for k in cutoffs))
    for name, (title, digits) in LIST_METRICS.items():
        cells = [values.get(f"{name}@{k}") for k in cutoffs]
        if any(value is not None for value in cells):
            table.add_row(title, *("" if v is None else format(v, digits) for v in cells))
    Console().print(table)
    groups = {"cold targets": values["cold_targets"], "warm targets": values["warm_targets"]}
    groups |= {f"history of {name}": group for name, group in values["history_lengths"].items()}
    names = (f"HR@{cutoffs[-1]}", f"NDCG@{cutoffs[-1]}", "MRR")
    table = Table("", "users", *names)
    for title, group in groups.items():
        cells = (f"{group[name]:.4f}" if name in group else "" for name in names)
        table.add_row(title, str(group["users"]), *cells)
    Console().print(table)
