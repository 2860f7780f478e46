"""Leave-one-out evaluation of all users, against scores and ranks of the oracle."""

import jax.numpy as jnp
import pytest

from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation import Evaluator, by_user
from mqsa_jax.inference.evaluation_set import Protocol, build_evaluation_set
from tests.inference.evaluation_cases import (
    CHUNK,
    HELD_OUT,
    HISTORIES,
    HPARAMS,
    MAX_LEN,
    RECOMMENDER,
    SEQUENCES,
    every_protocol,
    expected_ranks,
    params,
)

pytestmark = pytest.mark.usefixtures("small_chunks")


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
