"""Ranks and lists of counted models, beside those of a trained one, on the same examples."""

import numpy as np
import pytest
import scipy.sparse

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.counting import counting_ranks
from mqsa_jax.inference.evaluation import Evaluator
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.lists import CountedLists, TrainedLists
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.counted import CountedModel, count_model
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init
from mqsa_jax.models.registry import with_model
from mqsa_jax.ops import chunk_loop
from mqsa_jax.training.state import run_key
from tests.inference.list_cases import listed_items

MAX_LEN = 6
LOOPING = [
    [1, 2, 3, 4, 5, 6, 1],
    [2, 3, 4, 5, 6, 1, 2],
    [3, 4, 5, 6, 1, 2, 3],
    [4, 5, 6, 1, 2, 3, 4],
    [5, 6, 1, 2, 3, 4, 5],
]
"""Five users of all six items, each of whom returns to the first: no item is left to recommend."""


def ranks_and_lists(name, sequences, protocol, k):
    """By a counted model, or by a trained one before its first step."""
    histories = make_histories(range(1, len(sequences) + 1), sequences)
    config = with_model(Config(model=ModelConfig(model=name, dim=4, max_len=MAX_LEN)), name)
    if name != "mqsa-ted":
        counting = count_model(config, histories)
        ranks_U = counting_ranks(counting, histories, MAX_LEN, protocol)
        maker = CountedLists(counting, MAX_LEN, k)
        return ranks_U, listed_items(maker, histories, protocol, MAX_LEN, k)
    recommender = Recommender.of(config, histories.num_items)
    evaluator = Evaluator(histories, protocol, recommender, DeviceLayout.of(1))
    params, hparams = init(recommender, run_key(1)), HParams.of(config)
    maker = TrainedLists(recommender, params, hparams, None, k, layout=DeviceLayout.of(1))
    best_UK = listed_items(maker, histories, protocol, MAX_LEN, k)
    return evaluator.ranks(params, hparams), best_UK


every_kind = pytest.mark.parametrize("name", ["mqsa-ted", "popular", "transition-paths"])


@every_kind
def test_a_target_that_cannot_be_recommended_is_a_miss(name):
    rank_U, best_UK = ranks_and_lists(name, LOOPING, Protocol("test"), 20)
    assert rank_U.tolist() == [np.inf] * 5
    assert set(summarise(rank_U).values()) == {0.0}
    assert (best_UK == -1).all()


@every_kind
def test_only_such_targets_are_misses(name):
    """One item is left, and it is the target of the first user alone."""
    sequences = [[1, 2, 3, 4, 5, 6], *LOOPING]
    rank_U, best_UK = ranks_and_lists(name, sequences, Protocol("test"), 3)
    assert rank_U.tolist() == [1.0] + [np.inf] * 5
    assert summarise(rank_U)["HR@5"] == summarise(rank_U)["MRR"] == pytest.approx(1 / 6)
    # No counted model knows item 6, which does not occur in training, or follows 5 there.
    assert best_UK.tolist()[0] in ([5, -1, -1], [-1, -1, -1])
    assert (best_UK[1:] == -1).all()


@every_kind
def test_without_policy_every_target_has_a_rank(name):
    rank_U, _ = ranks_and_lists(name, LOOPING, Protocol("test", "none"), 20)
    assert ((rank_U >= 1) & (rank_U <= 6)).all()


@pytest.mark.parametrize("chunk", [2, 256])
@pytest.mark.parametrize("k", [1, 3, 6, 9])
def test_no_item_behind_the_end_of_a_list(monkeypatch, chunk, k):
    """All items score, or only those seen, or a seen one scores between two others."""
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", chunk)
    histories = make_histories([1, 2, 3], [[1, 2, 3, 4], [1, 2, 5, 6], [6, 5, 4, 3]])
    nothing = scipy.sparse.csr_array((6, 6))
    lists = {
        (6, 5, 4, 3, 2, 1): [[3, 4, 5], [2, 3, 5], [0, 1, 2]],
        (5, 0, 4, 0, 0, 0): [[], [2], [0, 2]],
        (0, 0, 0, 0, 0, 0): [[], [], []],
        (-1, 3, -2, 0, 2, 1): [[4, 5], [5], [1]],
    }
    for prior_V, expected in lists.items():
        counting = CountedModel(nothing, num_recent=0, prior=np.array(prior_V))
        maker = CountedLists(counting, MAX_LEN, k)
        best_UK = listed_items(maker, histories, Protocol("test"), MAX_LEN, k)
        assert best_UK.tolist() == [(items + [-1] * 9)[:k] for items in expected]
