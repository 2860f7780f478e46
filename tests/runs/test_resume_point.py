"""Where training goes on: the latest whole checkpoint, of an epoch or within one."""

import pytest

from mqsa_jax.errors import UserError
from mqsa_jax.runs.best_checkpoint import resume_point
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.run_directory import RunDirectory
from tests.runs.checkpoint_cases import (
    CONFIG,
    HARM,
    HISTORIES,
    blank,
    delete,
    flip_a_byte,
    flip_a_byte_of,
    history,
    leave_unfinished,
)


def resumed(run: RunDirectory) -> int:
    """The epoch; of a checkpoint within one, its step as a negative number; 0 to start afresh."""
    epochs, steps = Checkpoints(run.checkpoints), Checkpoints(run.step_checkpoints)
    try:
        point = resume_point(run, epochs, steps)
        if point is None:
            return 0
        return -point.number if point.snapshot.epoch_steps else point.number
    finally:
        epochs.close()
        steps.close()


def test_training_goes_on_from_the_latest_epoch(rising, falling):
    assert resumed(RunDirectory(rising)) == resumed(RunDirectory(falling)) == 3


def save_within(run: RunDirectory, step: int, lines: list[dict]):
    """A checkpoint within the epoch after those lines, one step from its beginning."""
    losses = {name: [0.1] for name in ("loss", "loss_rec", "loss_kd")}
    snapshot = Snapshot(lines, CONFIG.stored(), 1, HISTORIES.fingerprint(), epoch_losses=losses)
    checkpoints = Checkpoints(run.step_checkpoints)
    checkpoints.save(step, blank(step), HISTORIES, snapshot)
    checkpoints.close()


def test_training_goes_on_within_an_epoch(copy, rising):
    run = copy(rising)
    save_within(run, 31, history(0.1, 0.2, 0.3))
    assert resumed(run) == -31


@pytest.mark.filterwarnings("default:.*goes on from epoch 3:UserWarning")
def test_a_damaged_checkpoint_within_an_epoch_is_passed_over(copy, rising):
    run = copy(rising)
    save_within(run, 31, history(0.1, 0.2, 0.3))
    flip_a_byte_of(run.step_checkpoints / "31")
    with pytest.warns(UserWarning, match="step_checkpoints/31/.* is damaged"):
        assert resumed(run) == 3


def test_a_checkpoint_within_an_epoch_that_has_ended_is_not_gone_back_to(copy, rising):
    run = copy(rising)
    save_within(run, 21, history(0.1, 0.2))
    assert resumed(run) == 3


def test_training_goes_on_within_the_first_epoch(tmp_path):
    run = RunDirectory(tmp_path)
    save_within(run, 1, [])
    assert resumed(run) == -1


@pytest.mark.parametrize("harm", HARM[:3])
def test_training_goes_back_and_says_so(copy, rising, harm):
    run = copy(rising)
    harm(run, 3)
    if harm is delete:  # Nothing is there to be passed over.
        assert resumed(run) == 2
    else:
        with pytest.warns(UserWarning, match=r"checkpoints/3.*training goes on from epoch 2"):
            assert resumed(run) == 2


def test_training_goes_back_before_a_best_epoch_that_is_lost(copy, falling):
    run = copy(falling)
    flip_a_byte(run, 2)
    with pytest.warns(UserWarning, match=r"checkpoints/2/.* is damaged: .* from epoch 1"):
        assert resumed(run) == 1


def test_training_starts_afresh_only_where_nothing_was_ever_saved(copy, rising):
    run = copy(rising)
    for epoch in (1, 2, 3):
        flip_a_byte(run, epoch)
    with pytest.raises(UserError, match="no earlier epoch to go on from"):
        resumed(run)
    delete(run, 2)
    delete(run, 3)
    leave_unfinished(run, 1)
    with pytest.warns(UserWarning, match="checkpoints/1 is unfinished.*starts afresh"):
        assert resumed(run) == 0
