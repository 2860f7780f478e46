"""Models of few items with drawn parameters: an export does not need trained ones."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np

from mqsa_jax.config import Config, ModelConfig, TermConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.inference.loaded_run import CountedRun, TrainedRun
from mqsa_jax.inference.stored_model import TrainingCounts
from mqsa_jax.models.counted import count_model
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.models.relations import item_relations, teacher_counts

NUM_ITEMS, MAX_LEN, FACTOR = 30, 6, 10
NAMES = (
    "mqsa-ted",
    "mqsa-ted-plus",
    "sasrec",
    "gru4rec",
    "fmlp",
    "gat",
    "transition-paths",
    "popular",
)
HISTORIES = [[10, 20, 30], [40], [250, 300, 20, 10, 90, 80, 70, 60, 50]]
"""Ids: shorter and longer than what is read."""
METRICS = {"HR@5": 0.25, "NDCG@5": 0.125, "MRR": 0.5}


def data():
    """Histories of 4 to 15 of the items, ids ten times the index plus ten."""
    rng = np.random.default_rng(0)
    rows = [FACTOR * (rng.permutation(NUM_ITEMS)[:n] + 1) for n in rng.integers(4, 16, 60)]
    return make_histories(range(1, 61), rows)


def model_of(name: str, folder: Path) -> TrainedRun | CountedRun:
    """A model with parameters large enough that all of them matter, and a folder of results."""
    histories = data()
    term = TermConfig(term_items=2, term_neighbours=4) if name == "mqsa-ted-plus" else TermConfig()
    model = ModelConfig(model=name, dim=8, max_len=MAX_LEN, num_heads=2, num_blocks=2)
    config = with_model(Config(dataset="/home/me/shop.txt", model=model, term=term), name)
    write_results(folder, histories.fingerprint())
    counts = TrainingCounts(
        np.bincount(histories.items, minlength=NUM_ITEMS),
        teacher_counts(histories, config).to_scipy(),
    )
    common = (
        config,
        3,
        histories.item_ids,
        folder,
        histories.fingerprint(),
        partial(_same, counts),
    )
    if MODELS[name].counted:
        return CountedRun(*common, count_model(config, histories))
    recommender = Recommender.of(config, NUM_ITEMS)
    params = jax.tree.map(lambda leaf: leaf * 3 + 0.1, init(recommender, jax.random.key(0)))
    params["item_embedding"] = params["item_embedding"] * 20
    relations = item_relations(histories, config)
    return TrainedRun(*common, recommender, params, HParams.of(config), relations)


def _same(value):
    return value


def write_results(folder: Path, fingerprint: str) -> None:
    """What training and its test leave in the folder of a run, as far as a card needs it."""
    folder.mkdir(parents=True)
    valid = {f"valid_{name}": value + 0.25 for name, value in METRICS.items()}
    (folder / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"epoch": n, "valid_NDCG@20": 0.1 * n, **valid}) + "\n" for n in (1, 2, 3)
        )
    )
    result = {
        **METRICS,
        "split": "test",
        "exclude_seen": "history",
        "users": 60,
        "items": NUM_ITEMS,
        "epoch": 3,
        "data_fingerprint": fingerprint,
        "provenance": {"command": ["train.py", "--data-dir", "/home/me"], "commit": "abc1234"},
    }
    (folder / "test_metrics.json").write_text(json.dumps(result))


def rows_of(histories, width: int = 0) -> np.ndarray:
    """Histories of ids as int32 indices, aligned right behind -1."""
    width = max([width, *map(len, histories)])
    rows = np.full((len(histories), width), -1, np.int32)
    for row, history in zip(rows, histories, strict=True):
        row[width - len(history) :] = np.array(history) // FACTOR - 1
    return rows
