"""Histories whose targets were often consumed before, and their ranks by the oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init
from tests import oracle, ranking_oracle

USERS, V, D, MAX_LEN, CHUNK = 21, 14, 4, 5, 8
CONFIG = Config(model=ModelConfig(dim=D, max_len=MAX_LEN, window=3, alpha=0.4, dropout=0.5))
HPARAMS = HParams.of(CONFIG)
RECOMMENDER = Recommender(num_items=V, dim=D, max_len=MAX_LEN)
HELD_OUT = {"valid": 2, "test": 1}


def random_sequences():
    """Histories of 3 to 12 items, whose targets the user has often consumed before."""
    rng = np.random.default_rng(0)
    lengths = rng.choice([3, 3, 3, 4, 6, 9, 12], USERS)
    sequences = [rng.integers(0, V, length).tolist() for length in lengths]
    sequences[0] = [3, 1, 2]
    sequences[1] = [*range(10), 4, 2]
    sequences[2] = list(range(V - 1)) + [0]
    assert {item for sequence in sequences for item in sequence} == set(range(V))
    return sequences


SEQUENCES = random_sequences()
HISTORIES = make_histories(range(1, USERS + 1), SEQUENCES)


@functools.cache
def params():
    shapes = jax.eval_shape(lambda key: init(RECOMMENDER, key), jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


def seen_by(sequence, split, policy):
    """Items to leave out of a user's ranking, from a plain list."""
    before = sequence[: -HELD_OUT[split]]
    if policy == "none":
        return set()
    if policy == "history":
        return set(before)
    validation_item = sequence[-2:-1] if split == "test" else []
    return set(sequence[:-2][-MAX_LEN:] + validation_item)


@functools.cache
def expected_ranks(split, policy):
    flat = traverse_util.flatten_dict(params(), sep="/")
    result = []
    for sequence in SEQUENCES:
        held_out = HELD_OUT[split]
        score_V = oracle.scores(
            flat,
            sequence[:-held_out],
            max_len=MAX_LEN,
            window=3,
            alpha=0.4,
            num_blocks=1,
            num_heads=1,
        )
        target = sequence[-held_out]
        result.append(ranking_oracle.rank(score_V, target, seen_by(sequence, split, policy)))
    return result


every_protocol = pytest.mark.parametrize(
    ("split", "policy"),
    [(split, policy) for split in HELD_OUT for policy in ("history", "window", "none")],
)
