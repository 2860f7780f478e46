"""What ranks, lists and data sets tell: computed where they are at hand, kept as small JSON files.

The page is built from those files alone, so that it can be made again without ranks and data.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.load import load_histories
from mqsa_jax.errors import UserError
from mqsa_jax.presets import default_config
from mqsa_jax.reporting import breakdown
from mqsa_jax.reporting.lists import list_statistics
from mqsa_jax.reporting.rank_files import has_array, load_array, load_ranks, ndcg
from mqsa_jax.reporting.results import FULL_MODEL, Models, Run
from mqsa_jax.reporting.significance import compare
from mqsa_jax.runs.files import read_json, write_json

Analysis = dict[str, Any]
"""Of one data set:

`runs`: NDCG@20 in the test of each run that took part, by which a stale file is recognised;
`significance`: for each model the result of `compare` with the full one, with `seeds`, `users` and
`runs`; `distillation`: the same for each model with distillation, compared with that without;
`breakdown`: for each of `transition` and `popularity` the `groups`, their `users`, and each run's
mean NDCG@20 in them; `lists`: for each run the result of `list_statistics`.
"""


KEYS = ("runs", "significance", "distillation", "breakdown", "lists")
"""Of an analysis; a file of before may lack the latest."""
DISTILLED = {
    FULL_MODEL: "mqsa",
    "sasrec-ted": "sasrec",
    "fmlp-ted": "fmlp",
    "gru4rec-ted": "gru4rec",
}
"""Models with distillation, and the same encoders without."""
LISTS = ("recommendations.npz", "test_top20")
"""File and array of the recommended lists."""


def read_analysis(path: Path) -> Analysis:
    """The kept file, or an empty analysis where there is none."""
    empty: Analysis = {name: {} for name in KEYS}
    if not path.exists():
        return empty
    kept = read_json(path)
    if not isinstance(kept, dict) or not kept.keys() <= empty.keys():
        raise UserError(f"{path}: not an analysis of mqsa-jax report; delete it")
    return empty | kept


def without_stale(analysis: Analysis, models: Models) -> Analysis:
    """The part that is of these runs, as they are now."""
    current = {run.name: run.test["NDCG@20"] for runs in models.values() for run in runs}
    alive = {name for name, value in analysis["runs"].items() if current.get(name) == value}
    compared = {
        kind: {m: entry for m, entry in analysis[kind].items() if set(entry["runs"]) <= alive}
        for kind in ("significance", "distillation")
    }
    groups = {}
    for kind, entry in analysis["breakdown"].items():
        ndcg_of = {name: values for name, values in entry["ndcg"].items() if name in alive}
        if ndcg_of:
            groups[kind] = {**entry, "ndcg": ndcg_of}
    return {
        "runs": {name: current[name] for name in sorted(alive)},
        **compared,
        "breakdown": groups,
        "lists": {name: entry for name, entry in analysis["lists"].items() if name in alive},
    }


def update_analysis(dataset: str, models: Models, path: Path, data_dir: str | None) -> None:
    """Computes anew what files at hand allow, and writes it with what is kept of the rest."""
    analysis = without_stale(read_analysis(path), models)
    ranked = _with_file(models, "ranks.npz")
    listed = _with_lists(models)
    ranks = {run.name: load_ranks(run) for runs in ranked.values() for run in runs}
    others = {model: FULL_MODEL for model in ranked if model != FULL_MODEL}
    analysis["significance"].update(comparisons(others, ranked, ranks))
    analysis["distillation"].update(comparisons(DISTILLED, ranked, ranks))
    if ranked or listed:
        some_run = next(iter((ranked or listed).values()))[0]
        try:
            histories = load_histories(some_run.config["dataset"], data_dir)
        except UserError as error:
            warnings.warn(
                f"{dataset}: no breakdown computed, as its data are not at hand: {error}",
                UserWarning,
                stacklevel=2,
            )
        else:
            _check_same_data(_all(ranked) + _all(listed), histories)
            _update_by_data(analysis, ranked, ranks, listed, histories)
    for run in _all(ranked) + _all(listed):
        analysis["runs"][run.name] = run.test["NDCG@20"]
    if analysis["runs"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _sorted(analysis))
    else:
        path.unlink(missing_ok=True)


def _with_file(models: Models, file: str) -> Models:
    found = {model: [run for run in runs if run.has(file)] for model, runs in models.items()}
    return {model: runs for model, runs in found.items() if runs}


def _with_lists(models: Models) -> Models:
    """Those whose best 20 items of the test are at hand; lists of other lengths are no use."""
    found = _with_file(models, "recommendations.npz").items()
    kept = {model: [run for run in runs if has_array(run, *LISTS)] for model, runs in found}
    return {model: runs for model, runs in kept.items() if runs}


def _all(models: Models) -> list[Run]:
    return [run for runs in models.values() for run in runs]


def _sorted(value: Any) -> Any:
    """The same with keys in order, so that the file does not hang on the order of computing."""
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in sorted(value)}


def _check_same_data(runs: Iterable[Run], histories: Histories) -> None:
    fingerprint = histories.fingerprint()
    for run in runs:
        if run.test["data_fingerprint"] != fingerprint:
            raise UserError(
                f"{run.folder}: tested on other data than those at hand for {run.dataset} "
                "(data_fingerprint differs); name their folder with --data-dir"
            )


Ranks = dict[str, tuple[np.ndarray, np.ndarray]]
"""[U] user ids and [U] ranks by name of the run."""


def comparisons(other_of: Mapping[str, str], ranked: Models, ranks: Ranks) -> dict[str, Any]:
    """Each model against its other, averaged over the seeds that both have."""
    results = {}
    for model, other_model in other_of.items():
        others = {run.seed: run for run in ranked.get(other_model, [])}
        pairs = _pairs(ranked.get(model, []), others)
        if not pairs:
            continue
        own, other = ([ranks[run.name] for run in side] for side in zip(*pairs, strict=True))
        if any(not np.array_equal(user_U, own[0][0]) for user_U, _ in own + other):
            names = ", ".join(str(run.folder) for pair in pairs for run in pair)
            raise UserError(f"{names}: ranks of different users; test all on the same data")
        values = [_seed_mean(side, value) for value in (ndcg, np.log2) for side in (own, other)]
        results[model] = {
            **compare(*values),
            "users": len(values[0]),
            "seeds": sorted(other.seed for _, other in pairs),
            "runs": sorted({run.name for pair in pairs for run in pair}),
        }
    return results


def _pairs(runs: list[Run], others: dict[int, Run]) -> list[tuple[Run, Run]]:
    """Each run with the other model's of its seed; one that is not trained with all of them."""
    if runs and not runs[0].epochs:
        return [(runs[0], other) for other in others.values()]
    return [(run, others[run.seed]) for run in runs if run.seed in others]


def _seed_mean(
    ranks: list[tuple[np.ndarray, np.ndarray]], value: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """[U] mean over runs of a value of the rank."""
    return np.mean([value(rank_U) for _, rank_U in ranks], axis=0)


def _update_by_data(
    analysis: Analysis, ranked: Models, ranks: Ranks, listed: Models, histories: Histories
) -> None:
    """Breakdown and list statistics, which need the data set."""
    some_run = (_all(ranked) or _all(listed))[0]
    max_len = default_config(some_run.config["dataset"], FULL_MODEL).model.max_len
    count_V = splits.item_counts(histories, max_len)
    target_U = histories.items[histories.offsets[1:] - 1]
    groups = {
        "transition": breakdown.transition_groups(breakdown.transition_counts(histories, max_len)),
        "popularity": breakdown.popularity_groups(count_V[target_U]),
    }
    for kind, (names, group_U) in groups.items() if ranked else ():
        entry = analysis["breakdown"].setdefault(kind, {"ndcg": {}})
        entry["groups"] = names
        entry["users"] = np.bincount(group_U, minlength=len(names)).tolist()
        for name, (user_U, rank_U) in ranks.items():
            if not np.array_equal(user_U, histories.user_ids):
                raise UserError(f"run {name}: ranks.npz is of other users than the data set's")
            entry["ndcg"][name] = breakdown.group_means(ndcg(rank_U), group_U, len(names))
    for run in _all(listed):
        top_UK = load_array(run, *LISTS)
        analysis["lists"][run.name] = list_statistics(top_UK, count_V)
