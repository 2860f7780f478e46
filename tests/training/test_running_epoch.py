"""An epoch's losses: what counts as diverged, and what does not."""

import math

import numpy as np
import pytest

from mqsa_jax.training.objective import Losses
from mqsa_jax.training.running_epoch import losses_line


def losses(loss_rec, loss=None, loss_kd=None) -> Losses:
    """Of as many steps as `loss_rec` has."""
    rec = np.array(loss_rec, np.float32)
    return Losses(
        loss=rec if loss is None else np.full_like(rec, loss),
        loss_rec=rec,
        loss_kd=np.zeros_like(rec) if loss_kd is None else np.full_like(rec, loss_kd),
    )


@pytest.mark.parametrize("num_items", [1, 4, 300, 100_000])
@pytest.mark.parametrize("ratio", [11, 100, 1e6])
def test_a_ranking_loss_far_above_guessing_has_diverged(num_items, ratio):
    guessing = math.log(num_items + 1)
    with pytest.raises(FloatingPointError, match="^training has diverged by step 12: the mean"):
        losses_line(losses([ratio * guessing] * 3), 12, num_items)


@pytest.mark.parametrize("num_items", [1, 4, 300, 100_000])
def test_a_loss_near_guessing_or_a_single_bad_step_has_not(num_items):
    guessing = math.log(num_items + 1)
    line = losses_line(losses([guessing, 3 * guessing, 0.0, 20 * guessing]), 4, num_items)
    assert line["loss_rec"] == pytest.approx(6 * guessing)


def test_other_parts_of_the_loss_may_be_large():
    """A temperature of 0.001, or an l2 of 1, in a run that ranks well."""
    line = losses_line(losses([3.0, 2.0], loss=1e6, loss_kd=1e7), 2, 300)
    assert (line["loss"], line["loss_kd"], line["step"]) == (1e6, 1e7, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_step_that_is_no_number_is_named(value):
    with pytest.raises(FloatingPointError, match="^the loss of step 41 is"):
        losses_line(losses([1.0, value, value]), 42, 300)
