"""The full model against its parts on the embedded data: means, and paired differences."""

import statistics
from pathlib import Path

from mqsa_jax.reporting.results import Run, load_runs
from mqsa_jax.reporting.run_list import command
from mqsa_jax.reporting.tables import difference, table

FULL = "full"
"""The variant that others are compared with."""


def parts_section(folder: Path) -> str:
    """A table of the runs VARIANT-SEED in `folder`, or a line where there are none."""
    title = "## The full model and its parts, on the embedded data"
    if not folder.is_dir():
        return f"{title}\n\nNo runs are kept in {folder.name}."
    variants: dict[str, dict[str, Run]] = {}
    for run in load_runs(folder, distinct=False):
        variant, seed = run.name.rsplit("-", 1)
        variants.setdefault(variant, {})[seed] = run
    made_by = variants[FULL][min(variants[FULL])].test["provenance"]
    head = ["model", "command of the first seed", "seeds"]
    for name in ("HR@20", "NDCG@20"):
        head += [name, "full leads by"]
    return "\n\n".join(
        [
            title,
            "Means over seeds; the leads are paired by seed, ± their standard error. "
            f"Commit {made_by['commit']}, on {made_by['machine']}. Made by `mqsa-jax report` from "
            f"the runs in `docs/results/{folder.name}`.",
            table(head, [_row(variant, variants) for variant in sorted(variants)]),
        ]
    )


def _row(variant: str, variants: dict[str, dict[str, Run]]) -> list[str]:
    by_seed = variants[variant]
    cells = [
        variant.replace("-", " "),
        command(by_seed[min(by_seed)]),
        ", ".join(sorted(by_seed)),
    ]
    for name in ("HR@20", "NDCG@20"):
        values = [run.test[name] for run in by_seed.values()]
        lead = [
            variants[FULL][seed].test[name] - run.test[name]
            for seed, run in by_seed.items()
            if seed in variants[FULL]
        ]
        cells.append(f"{statistics.mean(values):.4f}")
        cells.append("" if variant == FULL else difference(lead))
    return cells
