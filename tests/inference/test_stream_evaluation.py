"""Ranks and lists of a stream are those of the same users in memory, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqsa_jax.config import Config
from mqsa_jax.data import streamed
from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.grid import with_flags
from mqsa_jax.inference import lists, stream_evaluation
from mqsa_jax.inference.counting import counting_ranks, counting_ranks_and_lists
from mqsa_jax.inference.evaluation import Evaluator
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stream_evaluation import StreamEvaluator
from mqsa_jax.models.counted import count_model
from mqsa_jax.models.recommender import Recommender, init
from tests.data.stream_cases import V, random_histories, write_folder
from tests.inference.evaluation_cases import HPARAMS

MAX_LEN = 5
RECOMMENDER = Recommender(num_items=V, dim=4, max_len=MAX_LEN)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of data of about 12 users, of which 8 are ranked at a time."""
    monkeypatch.setattr(streamed, "BLOCK_ITEMS", 100)
    monkeypatch.setattr(stream_evaluation, "BLOCK_CHUNKS", 1)
    monkeypatch.setattr(stream_evaluation, "chunk_rows", lambda *_: 8)


@pytest.fixture(scope="module", params=[(), (4, 6)], ids=["one out", "by time"])
def data(request, tmp_path_factory):
    """The same users in memory and as a stream."""
    shortest = 1 if request.param else 3
    histories = random_histories(60, shortest=shortest)
    folder = write_folder(tmp_path_factory.mktemp("data") / "log", histories, cuts=request.param)
    return read_prepared(folder), StreamedHistories.open(folder)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda key: init(RECOMMENDER, key), jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape) / 2), shapes)


@pytest.mark.parametrize("policy", ["history", "window", "none"])
@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("num_devices", [1, 3])
def test_ranks_are_equal(data, params, split, policy, num_devices):
    memory, stream = data
    rest = Protocol(split, policy), RECOMMENDER, DeviceLayout.of(num_devices)
    expected = Evaluator(memory, *rest).ranks(params, HPARAMS)
    evaluator = StreamEvaluator(stream, *rest)
    for _ in range(2):
        actual = evaluator.ranks(params, HPARAMS)
        assert actual.dtype == expected.dtype and actual.tolist() == expected.tolist()
    assert len(expected) > 30


def test_lists_are_equal(data, params):
    memory, stream = data
    rest = Protocol("test", "history", sample=30), RECOMMENDER, DeviceLayout.of(1)
    expected = Evaluator(memory, *rest).ranks_and_lists(params, HPARAMS, 6)
    actual = StreamEvaluator(stream, *rest).ranks_and_lists(params, HPARAMS, 6)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(expected[0]) <= 30


def test_scores_that_are_no_numbers_are_told(data, params):
    stream = data[1]
    evaluator = StreamEvaluator(stream, Protocol(), RECOMMENDER, DeviceLayout.of(1))
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    with pytest.raises(FloatingPointError, match="users are not numbers"):
        evaluator.ranks(broken, HPARAMS)


@pytest.mark.parametrize("model", ["popular", "transition", "transition-rows"])
def test_counted_models_are_equal(data, model):
    config = with_flags(Config(), model=model, max_len=MAX_LEN)
    both = []
    for each in data:
        counted = count_model(config, each)
        ranks = counting_ranks(counted, each, MAX_LEN, Protocol())
        again, best = counting_ranks_and_lists(counted, each, MAX_LEN, Protocol(), 4)
        np.testing.assert_array_equal(ranks, again)
        both.append((ranks, best))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_blocks_keep_their_shapes(data, params, monkeypatch):
    """So that few programs are compiled."""
    shapes = []
    fitted = lists.BlockShapes.fitted

    def told(self, block):
        block = fitted(self, block)
        shapes.append(str(jax.tree.map(np.shape, block)))
        return block

    monkeypatch.setattr(lists.BlockShapes, "fitted", told)
    evaluator = StreamEvaluator(data[1], Protocol(), RECOMMENDER, DeviceLayout.of(1))
    evaluator.ranks(params, HPARAMS)
    first = len(shapes)
    evaluator.ranks(params, HPARAMS)
    assert first > 4 and len(set(shapes[first:])) == 1
