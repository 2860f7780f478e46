"""What ranks, lists and data sets tell: computed from files at hand, kept as small JSON files.

The page is built from the kept files alone, so that it can be made again without ranks and data.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.breakdown import breakdown_groups, group_means
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.sources import load_histories
from mqsa_jax.errors import UserError
from mqsa_jax.inference.stored_ranks import RANKS, has_array, load_array, load_ranks, ndcg_at_20
from mqsa_jax.reporting.configurations import Group, reference_of
from mqsa_jax.reporting.results import FULL_MODEL, Run
from mqsa_jax.reporting.significance import compare
from mqsa_jax.reporting.user_statistics import list_statistics, log_rank
from mqsa_jax.runs.files import read_json, write_json

Analysis = dict[str, Any]
"""Of one data set:

`runs`: test NDCG@20 of each run that took part, by which a stale file is recognised;
`significance`: by key of the configuration the result of `compare` with its reference, with `other`
(key of the reference), `seeds`, `users` and `runs`; `distillation`: the same for each configuration
with distillation, compared with the same without it; `breakdown`: for each of `transition` and
`popularity` the `groups`, their `users`, and each run's mean NDCG@20 in them; `lists`: for each run
the result of `list_statistics`.
"""

KEYS = ("runs", "significance", "distillation", "breakdown", "lists")
"""Of an analysis."""
DISTILLED = {
    FULL_MODEL: "mqsa",
    "sasrec-ted": "sasrec",
    "fmlp-ted": "fmlp",
    "gru4rec-ted": "gru4rec",
}
"""Models with distillation, and the same encoders without it."""
LIST_LENGTH = 20
"""Length of the lists whose statistics are shown."""

Pairs = dict[str, tuple[Group, Group]]
"""A configuration and the one that it is compared with, by key of the former."""


def reference_pairs(groups: Iterable[Group]) -> Pairs:
    """Each configuration with its reference."""
    groups = list(groups)
    pairs = {group.key: (group, reference_of(group, groups)) for group in groups}
    return {key: pair for key, pair in pairs.items() if pair[0] is not pair[1]}


def distillation_pairs(groups: Iterable[Group]) -> Pairs:
    """Each configuration with distillation, and that of the same settings without it."""
    of = {(group.model, group.runs[0].settings, group.protocol): group for group in groups}
    return {
        group.key: (group, of[DISTILLED[model], *rest])
        for (model, *rest), group in of.items()
        if (DISTILLED.get(model), *rest) in of
    }


def read_analysis(path: Path) -> Analysis:
    """The kept file, or an empty analysis if there is none."""
    empty: Analysis = {name: {} for name in KEYS}
    if not path.exists():
        return empty
    kept = read_json(path)
    if not isinstance(kept, dict) or not kept.keys() <= empty.keys():
        raise UserError(f"{path}: not an analysis of mqsa-jax report; delete it")
    return empty | kept


def without_stale(analysis: Analysis, groups: list[Group]) -> Analysis:
    """The part that is of these runs with these results."""
    current = {run.name: run.test["NDCG@20"] for group in groups for run in group.runs}
    alive = {name for name, value in analysis["runs"].items() if current.get(name) == value}

    def compared(entries: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
        return {
            key: entry
            for key, entry in entries.items()
            if set(entry["runs"]) <= alive and key in pairs and pairs[key][1].key == entry["other"]
        }

    breakdown = {}
    for kind, entry in analysis["breakdown"].items():
        ndcg_of = {name: values for name, values in entry["ndcg"].items() if name in alive}
        if ndcg_of:
            breakdown[kind] = {**entry, "ndcg": ndcg_of}
    return {
        "runs": {name: current[name] for name in sorted(alive)},
        "significance": compared(analysis["significance"], reference_pairs(groups)),
        "distillation": compared(analysis["distillation"], distillation_pairs(groups)),
        "breakdown": breakdown,
        "lists": {name: entry for name, entry in analysis["lists"].items() if name in alive},
    }


def update_analysis(groups: list[Group], path: Path, data_dir: str | None) -> str | None:
    """Computes what the files at hand allow, and keeps the rest of the file at `path`.

    Returns:
      Why nothing that needs the data set was computed, or None if it was, or was not needed.
    """
    analysis = without_stale(read_analysis(path), groups)
    runs = [run for group in groups for run in group.runs]
    ranked = [run for run in runs if has_array(run.folder, RANKS, run.result)]
    listed = [run for run in runs if has_array(run.folder, *_lists(run))]
    ranks = {run.name: load_ranks(run.folder, run.result, run.test["NDCG@20"]) for run in ranked}
    analysis["significance"] |= comparisons(reference_pairs(groups), ranks)
    analysis["distillation"] |= comparisons(distillation_pairs(groups), ranks)
    missing = None
    if ranked or listed:
        histories = _data_of((ranked or listed)[0], data_dir)
        if isinstance(histories, Histories):
            _update_by_data(analysis, runs[0].config["max_len"], ranks, listed, histories)
        else:
            missing = histories
    for run in ranked + listed:
        analysis["runs"][run.name] = run.test["NDCG@20"]
    if analysis["runs"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _sorted(analysis))
    else:
        path.unlink(missing_ok=True)
    return missing


def _lists(run: Run) -> tuple[str, str]:
    """File and array of the recommended lists."""
    return "recommendations.npz", f"{run.result}_top{LIST_LENGTH}"


def _data_of(run: Run, data_dir: str | None) -> Histories | str:
    """The data set of a run, or why it is not at hand."""
    try:
        histories = load_histories(run.config["dataset"], data_dir or run.config["data_dir"])
    except UserError as error:
        return str(error)
    if histories.fingerprint() != run.fingerprint:
        return f"{run.config['dataset']}: not the data that {run.folder} was tested on"
    return histories


def _sorted(value: Any) -> Any:
    """The same with sorted keys, so that the file does not depend on the order of computing."""
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in sorted(value)}


Ranks = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""[U] user ids and [U] ranks by name of the run."""


def comparisons(pairs: Pairs, ranks: Ranks) -> dict[str, Any]:
    """Compares pairs of configurations, averaged over the seeds that both have ranks of."""
    results = {}
    for key, (group, other) in pairs.items():
        runs = seed_pairs(group, other, ranks)
        if not runs:
            continue
        own, others = ([ranks[run.name] for run in side] for side in zip(*runs, strict=True))
        if any(not np.array_equal(user_U, own[0][0]) for user_U, _ in own + others):
            names = ", ".join(str(run.folder) for pair in runs for run in pair)
            raise UserError(f"{names}: ranks of different users; test all on the same data")
        num_items = runs[0][0].test["items"]
        values = [
            _seed_mean(side, value)
            for value in (
                ndcg_at_20,
                lambda rank_U, num=num_items: log_rank(rank_U, num),
            )
            for side in (own, others)
        ]
        results[key] = {
            **compare(*values),
            "other": other.key,
            "users": len(values[0]),
            "seeds": sorted({(run if other.counted else base).seed for run, base in runs}),
            "runs": sorted({run.name for pair in runs for run in pair}),
        }
    return results


def seed_pairs(group: Group, other: Group, names: Iterable[str]) -> list[tuple[Run, Run]]:
    """Runs of the same seed; a counted model, which has none, with each run of the other.

    Args:
      group: a configuration.
      other: the configuration that it is compared with.
      names: of the runs that may take part.
    """
    names = set(names)
    runs = [run for run in group.runs if run.name in names]
    others = [run for run in other.runs if run.name in names]
    if group.counted or other.counted:
        single, many = (runs[:1], others) if group.counted else (runs, others[:1])
        return [(run, base) for run in single for base in many]
    of_seed = {run.seed: run for run in others}
    return [(run, of_seed[run.seed]) for run in runs if run.seed in of_seed]


def _seed_mean(
    ranks: list[tuple[np.ndarray, np.ndarray]], value: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """[U] mean over runs of a function of the rank."""
    return np.mean([value(rank_U) for _, rank_U in ranks], axis=0)


def _update_by_data(
    analysis: Analysis, max_len: int, ranks: Ranks, listed: list[Run], histories: Histories
) -> None:
    """Computes the breakdown and the list statistics, which need the data set."""
    count_V = splits.item_counts(histories, max_len)
    groups = breakdown_groups(histories, max_len) if ranks else {}
    for kind, (names, group_U) in groups.items():
        entry = analysis["breakdown"].setdefault(kind, {"ndcg": {}})
        entry["groups"] = names
        entry["users"] = np.bincount(group_U, minlength=len(names)).tolist()
        for name, (user_U, rank_U) in ranks.items():
            if not np.array_equal(user_U, histories.user_ids):
                raise UserError(f"run {name}: ranks.npz is of other users than the data set's")
            ndcg_U = ndcg_at_20(rank_U)
            entry["ndcg"][name] = group_means(ndcg_U, group_U, len(names))
    for run in listed:
        top_UK = load_array(run.folder, *_lists(run))
        analysis["lists"][run.name] = list_statistics(top_UK, count_V)
