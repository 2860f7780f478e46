"""Small logs, and what becomes of them by plain Python."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mqsa_jax.data.prepared import HISTORIES, ITEMS, USERS
from mqsa_jax.prepare.dataset import prepare
from mqsa_jax.prepare.engines import engine_maker
from mqsa_jax.prepare.options import PrepareOptions

SECOND = 10**6
"""Microseconds."""


def random_events(seed, users=12, items=9, events=120, times=40):
    """(user, item, time in seconds), with repeats, duplicates and ties."""
    rng = np.random.default_rng(seed)
    rows = zip(
        rng.integers(0, users, events).tolist(),
        (rng.random(events) ** 2 * items).astype(int).tolist(),
        rng.integers(0, times, events).tolist(),
        strict=True,
    )
    return [(f"u{user}", f"i,{item}", 1_500_000_000 + 7 * time) for user, item, time in rows]


def core(events, min_user, min_item):
    """What is left of events when users and items of too few are dropped, again and again."""
    while True:
        users, items = (Counter(event[place] for event in events) for place in (0, 1))
        kept = [e for e in events if users[e[0]] >= min_user and items[e[1]] >= min_item]
        if len(kept) == len(events):
            return kept
        events = kept


def by_user(events):
    """Items and times of each user, by time and then by item."""
    result = {}
    for user, item, time in sorted(events, key=lambda event: (event[2], event[1])):
        result.setdefault(user, []).append((item, time))
    return result


def write_csv(path: Path, events, header="user_id,item_id,timestamp") -> Path:
    quoted = ['"' + item.replace('"', '""') + '"' for _, item, _ in events]
    lines = [f"{user},{item},{time}" for (user, _, time), item in zip(events, quoted, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def prepared(inputs, folder, engine="duckdb", say=lambda line: None, **options):
    """The manifest of a folder made of inputs."""
    paths = [str(path) for path in (inputs if isinstance(inputs, list) else [inputs])]
    return prepare(paths, folder, PrepareOptions(**options), engine_maker(engine), say=say)


def read_back(folder):
    """Items and times of each user in a folder, in the log's ids."""
    users, items = (pq.read_table(folder / name).column(0).to_pylist() for name in (USERS, ITEMS))
    result = {}
    for path in sorted((folder / HISTORIES).iterdir()):
        for row in pq.read_table(path).to_pylist():
            pairs = zip(row["items"], row["times"], strict=True)
            result[users[row["user"]]] = [(items[item], time // SECOND) for item, time in pairs]
    return result


def without_engine(manifest):
    return json.dumps({name: value for name, value in manifest.items() if name != "engine"})
