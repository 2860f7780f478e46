"""Batches packed into static shapes score as one history a row does."""

import numpy as np
import pytest

from mqsa_jax.data.histories import make_histories
from mqsa_jax.inference.batch_shapes import MAX_BATCH, SHAPES, BatchShape, packed_batch
from tests.inference.test_string_ids import ROWS, loaded


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return loaded(
        "mqsa-ted-plus", make_histories(range(len(ROWS)), ROWS), tmp_path_factory.mktemp("run")
    )[0]


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([9], (1, 1)),
        ([1, 2], (2, 1)),
        ([1, 2, 2], (4, 2)),
        ([5, 1], (4, 2)),
        ([1] * 6, (8, 2)),
        ([5, 5, 1], (16, 4)),
        ([5] * 5, (8, 8)),
        ([1] * 9, (16, 4)),
        ([1] * 17, (32, 8)),
        ([5] * 9, (32, 32)),
        ([3, 2] * 16, (32, 32)),
    ],
)
def test_scores_are_those_of_one_history_a_row(run, rng, lengths, shape):
    rows = [rng.integers(0, 12, length).astype(np.int32) for length in lengths]
    sequences, last_B = packed_batch(rows, run.config.model.max_len)
    assert BatchShape(len(last_B), len(sequences.item)) == shape
    score_BV = np.asarray(run.batch_scores(rows))
    assert score_BV.shape == (shape[0], 12)
    expected = run.score([row.tolist() for row in rows])
    np.testing.assert_allclose(score_BV[: len(rows)], expected, atol=1e-6)


def test_every_shape_is_the_first_that_fits():
    assert list(SHAPES) == sorted(SHAPES, key=lambda shape: (shape.rows, shape.histories))
    # A history fills a row at most.
    assert SHAPES[-1].rows == SHAPES[-1].histories == MAX_BATCH


@pytest.mark.parametrize("number", [0, MAX_BATCH + 1])
def test_a_batch_of_another_size_is_refused(number):
    with pytest.raises(ValueError, match="1 to 32 histories"):
        packed_batch([np.array([1])] * number, 4)
