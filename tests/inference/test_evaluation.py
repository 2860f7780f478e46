"""Leave-one-out evaluation of all users, against scores and ranks of the oracle."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference import evaluation_set
from mqsa_jax.inference.evaluation import Evaluator, by_user
from mqsa_jax.inference.evaluation_set import Protocol, build_evaluation_set
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init
from mqsa_jax.ops import chunk_loop
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


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Users come in chunks that they do not fill."""
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", CHUNK)


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


@every_protocol
def test_ranks_agree_with_the_oracle(split, policy):
    evaluator = Evaluator(HISTORIES, Protocol(split, policy), RECOMMENDER, DeviceLayout.of(1))
    actual = evaluator.ranks(params(), HPARAMS)
    assert actual.tolist() == expected_ranks(split, policy)


def test_policies_and_splits_differ():
    """So that the test above can tell them apart."""
    protocols = [(split, policy) for split in HELD_OUT for policy in ("history", "window", "none")]
    assert len({tuple(expected_ranks(*protocol)) for protocol in protocols}) == 6


@pytest.mark.parametrize(("num_devices", "shape"), [(2, (2, 2, CHUNK)), (3, (1, 3, 7))])
def test_ranks_do_not_depend_on_the_number_of_devices(num_devices, shape):
    data = build_evaluation_set(HISTORIES, Protocol("test"), MAX_LEN, num_devices)
    assert data.chunks.target.shape == shape
    evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, DeviceLayout.of(num_devices))
    assert evaluator.ranks(params(), HPARAMS).tolist() == expected_ranks("test", "history")


def test_users_come_in_chunks_that_they_do_not_fill():
    data = build_evaluation_set(HISTORIES, Protocol("test"), MAX_LEN, 1)
    chunks = data.chunks
    assert chunks.target.shape == chunks.last.shape == (3, 1, CHUNK)
    assert chunks.inputs.item.shape[:2] == (3, 1)
    assert by_user(jnp.asarray(chunks.target), data).tolist() == [
        sequence[-1] for sequence in SEQUENCES
    ]
    # Several histories a row: fewer rows than users.
    assert chunks.inputs.item.shape[2] < CHUNK


@pytest.mark.parametrize("order", ["side by side", "every third", "last"])
def test_long_histories_are_spread_over_chunks(order):
    """Those of one chunk alone would take a row for each of its users."""
    long, short = list(range(MAX_LEN + 2)), [1, 2, 3]
    sequences = {
        "side by side": [long] * CHUNK + [short] * 2 * CHUNK,
        "every third": [long, short, short] * CHUNK,
        "last": [short] * 2 * CHUNK + [long] * CHUNK,
    }[order]
    histories = make_histories(range(1, 1 + 3 * CHUNK), sequences)
    inputs = build_evaluation_set(histories, Protocol("test"), MAX_LEN, 1).chunks.inputs
    assert inputs.item.shape[:2] == (3, 1) and inputs.item.shape[2] < CHUNK


def seen_pairs(split, policy, num_shards=1):
    """Items left out, by user, from an evaluation set."""
    data = build_evaluation_set(HISTORIES, Protocol(split, policy), MAX_LEN, num_shards)
    chunks, result = data.chunks, {user: [] for user in range(USERS)}
    for chunk in range(len(chunks.target)):
        for index in range(chunks.seen_begin[chunk], chunks.seen_end[chunk]):
            for shard in range(num_shards):
                slot = data.seen_user[index, shard]
                if slot < chunks.user.shape[-1]:
                    user = int(chunks.user[chunk, shard, slot])
                    result[user].append(int(data.seen_item[index, shard]))
    return result


@every_protocol
@pytest.mark.parametrize("num_shards", [1, 3])
def test_items_left_out_are_those_consumed(split, policy, num_shards):
    for user, items in seen_pairs(split, policy, num_shards).items():
        assert sorted(items) == sorted(seen_by(SEQUENCES[user], split, policy))


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_pairs_are_left_out_some_at_a_time(monkeypatch, most):
    monkeypatch.setattr(evaluation_set, "MAX_PAIRS", most)
    for num_devices in (1, 2):
        layout = DeviceLayout.of(num_devices)
        evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, layout)
        assert evaluator.ranks(params(), HPARAMS).tolist() == expected_ranks("test", "history")


def uneven(rng, long, short):
    """Histories of the given lengths, those of `long` among many of a length of `short`."""
    lengths = rng.permutation(np.concatenate([long, np.full(*short)])).astype(int)
    sequences = [rng.integers(1, 50_000, length) for length in lengths]
    return make_histories(np.arange(len(sequences)) + 1, sequences)


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ([100_000], (50_000, 5)),  # one user with a third of all interactions
        ([], (3000, 100)),  # all alike, and longer than a row
        ([2000] * 100, (20_000, 4)),  # many users between
        ([30_000] * 3, (300, 3)),  # hardly anybody else
    ],
)
def test_memory_is_bounded_by_that_of_the_data(monkeypatch, long, short):
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", 256)
    histories = uneven(np.random.default_rng(0), long, short)
    # As a text file `user item item ...`: a digit is a byte.
    text = sum(len(str(item)) + 1 for item in histories.item_ids[histories.items].tolist())
    tracemalloc.start()
    data = build_evaluation_set(histories, Protocol("test"), 50, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(data)) < 3 * text
    assert peak < 3 * text


def test_items_left_out_of_an_example():
    assert SEQUENCES[1] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 2]
    # Training items 0..9, validation item 4, test item 2; the model reads five items.
    # The user has had both targets before.
    assert seen_pairs("valid", "history")[1] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert seen_pairs("valid", "window")[1] == [5, 6, 7, 8, 9]
    assert seen_pairs("test", "history")[1] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert seen_pairs("test", "window")[1] == [4, 5, 6, 7, 8, 9]
    assert seen_pairs("test", "none")[1] == []


def test_a_score_that_is_no_number_is_an_error():
    evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, DeviceLayout.of(1))
    broken = {**params(), "item_embedding": params()["item_embedding"].at[3].set(jnp.nan)}
    with pytest.raises(FloatingPointError, match=f"scores of {USERS} users"):
        evaluator.ranks(broken, HPARAMS)


def test_a_target_consumed_before_is_never_recommended():
    known = np.array([sequence[-1] in sequence[:-1] for sequence in SEQUENCES])
    assert 0 < known.sum() < USERS
    evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, DeviceLayout.of(1))
    np.testing.assert_array_equal(evaluator.ranks(params(), HPARAMS) == np.inf, known)
    best_UK = evaluator.top_items(params(), HPARAMS, V + 2)
    for best_K, sequence in zip(best_UK.tolist(), SEQUENCES, strict=True):
        listed = [item for item in best_K if item >= 0]
        # All others, and then the list ends.
        assert sorted(listed) == sorted(set(range(V)) - set(sequence[:-1]))
        assert best_K == listed + [-1] * (V + 2 - len(listed))


def test_dropout_has_no_effect():
    evaluator = Evaluator(HISTORIES, Protocol("test"), RECOMMENDER, DeviceLayout.of(1))
    wild = HPARAMS.replace(dropout=jnp.float32(0.9))
    assert evaluator.ranks(params(), wild).tolist() == expected_ranks("test", "history")


def test_summary_of_an_example():
    result = summarise(np.array([1.0, 3.0, 5.5, 15.0], np.float32))
    assert list(result) == ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "MRR"]
    assert (result["HR@5"], result["HR@10"], result["HR@20"]) == (2 / 4, 3 / 4, 4 / 4)
    at_5 = 1 + 1 / 2
    at_10 = at_5 + 1 / np.log2(6.5)
    np.testing.assert_allclose(result["NDCG@5"], at_5 / 4, rtol=1e-6)
    np.testing.assert_allclose(result["NDCG@10"], at_10 / 4, rtol=1e-6)
    np.testing.assert_allclose(result["NDCG@20"], (at_10 + 1 / 4) / 4, rtol=1e-6)
    np.testing.assert_allclose(result["MRR"], (1 + 1 / 3 + 1 / 5.5 + 1 / 15) / 4, rtol=1e-6)


def test_names_of_protocols():
    assert Protocol("test").result_name("history") == "test"
    assert Protocol("valid", "window").result_name("history") == "valid_window"
    assert Protocol("test", "none").result_name("history") == "test_none"
    assert Protocol("test", "none").result_name("none") == "test"
    assert Protocol("test", "history").result_name("none") == "test_history"
