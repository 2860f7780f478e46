"""The training loop: epochs until validation stops improving, then the test.

One batch goes through `data/batches.py` (drawn and packed on the host, an epoch ahead),
`running_epoch.py` (handed to the devices), `epoch.py` (a scan over the steps), `step.py` (gradients
of the objective and the update), `models/recommender.py` (user vectors) and `losses/`.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mqsa_jax import hosts
from mqsa_jax.data.batches import Batch, BatchSource
from mqsa_jax.data.stream_batches import StreamBatches
from mqsa_jax.errors import DataError, DivergenceError, FolderError, UserError
from mqsa_jax.inference.stream_evaluation import AnyEvaluator
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.runs.best_checkpoint import best_checkpoint, check_config, resume_point
from mqsa_jax.runs.history import best_epoch, is_finished, with_no_better
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.process_shares import whole_batch
from mqsa_jax.training.profiling import Profiler
from mqsa_jax.training.progress import Progress
from mqsa_jax.training.results import evaluate, write_model_data
from mqsa_jax.training.running_epoch import (
    RunningEpoch,
    epoch_starter,
    losses_line,
    metrics_line,
    speed_line,
)
from mqsa_jax.training.saver import RunSaver, losses_done
from mqsa_jax.training.state import TrainState, run_key
from mqsa_jax.training.stop_requests import StopRequests
from mqsa_jax.training.term_choice import choose_term_factor, chooses_term
from mqsa_jax.training.warm_start import Source, check_source, describe, read_source

STEPS_PER_PROGRAM = 512
"""Steps compiled into one program at most; an epoch of more takes several calls."""
STREAM_STACKS = 1
"""Stacks of a stream's batches that wait on the devices while they work on another one."""
_DIVERGED = "training stopped and the last checkpoint is kept"


@dataclasses.dataclass(eq=False)
class _Resumed:
    state: TrainState | None
    history: list[dict[str, Any]]
    losses: list[Losses]
    """Of the steps done in the epoch after the history."""


def train(experiment: Experiment, run_dir: RunDirectory, resume: bool) -> dict[str, Any]:
    """Trains to early stopping, restores the best epoch and evaluates it on the test split.

    A folder is for one process at a time: `with locked(run_dir.path)` of `runs.files`, as the
    command line has it, keeps others out.

    Args:
      experiment: configuration, data and devices.
      run_dir: folder of the results; must be empty, or with `resume` hold the same configuration.
      resume: whether to continue from the folder's latest whole checkpoint.

    Returns:
      The test result, as written to `test_metrics.json`.

    Raises:
      UserError: if there is nothing to train on, if a loss or score is not a number, or if a
        checkpoint does not fit.
    """
    experiment.check_data()
    with RunSaver(experiment, run_dir) as saver:
        start = _start(experiment, run_dir, saver, resume)
        run_dir.start(experiment.config, experiment.histories.inputs_fingerprint())
        state, history = _run_epochs(experiment, run_dir, saver, start)
        best = best_epoch(history)
        if best != len(history):
            problem = saver.epochs.problem(best)
            if problem:
                raise UserError(
                    f"{problem}, and epoch {best} is the best; restore it or train again"
                )
            state = saver.epochs.restore(best, state, experiment.histories)
        relations = experiment.relations()
        if chooses_term(experiment):
            factor = choose_term_factor(experiment, state, relations)
            digest = saver.epochs.manifest_digest(best)
            run_dir.record_best(best, digest, term_factor=factor)
            state = state.with_term_factor(factor)
        return evaluate(experiment, state, best, experiment.protocol("test"), run_dir, relations)


def restore_best(experiment: Experiment, run_dir: RunDirectory) -> tuple[TrainState, int]:
    """The state of a run's best epoch so far, to be evaluated, and that epoch.

    Raises:
      UserError: see `best_checkpoint`; or if it was trained on other data.
    """
    best = best_checkpoint(run_dir)
    _check_data(experiment, best.data_fingerprint)
    plain = best.restore_plain()
    # Without the optimiser's state: it may be that of a user's own optimiser.
    state = TrainState(
        plain["params"], (), plain["step"], HParams(**plain["hparams"]), plain.get("ema_params")
    )
    state = experiment.placed(state)
    if best.term_factor != 1:
        state = state.with_term_factor(best.term_factor)
    return state, best.epoch


def check_warm_start(experiment: Experiment, run_dir: RunDirectory) -> Source | None:
    """The run that `init_from` names, known to fit; None without the flag.

    Raises:
      UserError: if it is missing, damaged or of other settings, or is the run to be trained.
    """
    path = experiment.config.training.init_from
    if path is None:
        return None
    if Path(path).resolve() == run_dir.path.resolve():
        raise UserError(f"{path} is the folder of the new run too; name another one for either")
    source = read_source(path)
    check_source(source, experiment.config, experiment.histories.item_ids)
    return source


def _check_data(experiment: Experiment, data_fingerprint: str) -> None:
    if data_fingerprint != experiment.histories.inputs_fingerprint():
        raise DataError("the run was trained on other data (fingerprints differ)")


def _start(
    experiment: Experiment, run_dir: RunDirectory, saver: RunSaver, resume: bool
) -> _Resumed:
    """The state to go on from, and what led to it; nothing is written if it does not fit."""
    state = experiment.initial_state()
    point = resume_point(run_dir, saver.epochs, saver.steps) if resume else None
    if point is None:
        if experiment.config.training.init_from is not None:
            source = check_warm_start(experiment, run_dir)
            state, origins = experiment.warm_state(source)
            print(describe(source, origins), flush=True)
        return _Resumed(saver.resume(None, state), [], [])
    snapshot = point.snapshot
    _check_data(experiment, snapshot.data_fingerprint)
    check_config(run_dir, experiment.config, snapshot, point.path)
    _check_length(experiment, run_dir, snapshot.history)
    return _Resumed(saver.resume(point, state), snapshot.history, losses_done(snapshot))


def _check_length(
    experiment: Experiment, run_dir: RunDirectory, history: list[dict[str, Any]]
) -> None:
    """Raises UserError if training by these settings would have ended before the last epoch."""
    settings = experiment.config.training
    for epochs in range(1, len(history)):
        if is_finished(history[:epochs], settings.epochs, settings.patience):
            raise FolderError(
                f"{run_dir.path} has trained {len(history)} epochs, but epochs {settings.epochs} "
                f"and patience {settings.patience} end after {epochs}; give more"
            )


def _run_epochs(
    experiment: Experiment, run_dir: RunDirectory, saver: RunSaver, start: _Resumed
) -> tuple[TrainState, list[dict[str, Any]]]:
    settings = experiment.config.training
    # Frees the first state: the devices already hold those of the current and of the next epoch.
    state, start.state = start.state, None
    history = list(start.history)
    saver.write_history(history)
    if is_finished(history, settings.epochs, settings.patience):
        return state, history
    run_dir.delete_results()
    relations = experiment.relations()
    validation = experiment.evaluator(experiment.protocol("valid"), relations)
    source = experiment.batch_source()
    write_model_data(experiment, relations, run_dir)
    ended = 0.0
    with (
        StopRequests() as stops,
        Progress(run_dir.events, len(history), settings.epochs) as progress,
        Profiler(run_dir.profile, experiment.config.run.profile) as profiler,
    ):
        between = saver.between_programs(stops, history)
        start_epoch = _epoch_starter(
            experiment, relations, source, validation, between, len(history), start.losses, profiler
        )
        running = start_epoch(state)
        while running is not None:
            state, upcoming = running.state, None
            # The devices never wait: an epoch that is sure to come starts before this one is read,
            # unless its start would wait for its programs, or for the stacks of a stream.
            goes_on = not is_finished(with_no_better(history), settings.epochs, settings.patience)
            at_once = source.num_steps <= _steps_per_program(experiment)
            if goes_on and at_once and not experiment.is_stream:
                upcoming = start_epoch(state)
            line = {"epoch": len(history) + 1, **_epoch_line(running, experiment)}
            # From the end of the epoch before, or the start of this one if later, to its end. The
            # devices validate the epoch before meanwhile.
            began, ended = max(running.began, ended), time.perf_counter()
            line |= speed_line(running.work, ended - began, experiment.layout.local_devices)
            history.append(line | _validation_line(validation, running))
            saver.save_epoch(state, history)
            progress.show(history[-1], best_epoch(history))
            if stops.reached():
                saver.stop(line["step"])
            if upcoming is None and not is_finished(history, settings.epochs, settings.patience):
                upcoming = start_epoch(state)
            running = upcoming
    saver.wait()
    hosts.wait_for_others("trained")
    return state, history


def _steps_per_program(experiment: Experiment) -> int:
    """Training may be saved between programs only, and whole programs are traced."""
    run = experiment.config.run
    return min(STEPS_PER_PROGRAM, run.save_every, run.profile or STEPS_PER_PROGRAM)


def _epoch_starter(
    experiment: Experiment,
    relations: ItemRelations,
    source: BatchSource | StreamBatches,
    validation: AnyEvaluator,
    between: Callable[[TrainState, list[Losses]], None],
    epochs_done: int,
    losses: list[Losses],
    profiler: Profiler,
) -> Callable[[TrainState], RunningEpoch]:
    """A function that starts the next epoch and its validation from a state.

    Args:
      experiment: of the run.
      relations: of the run.
      source: of the batches.
      validation: of the run.
      between: see `epoch_starter`.
      epochs_done: how many.
      losses: of the steps done in the epoch after these.
      profiler: traces steps.
    """
    settings, layout = experiment.config.training, experiment.layout
    first_step = sum(part.loss.size for part in losses)
    steps = _steps_per_program(experiment)
    stacks = source.epochs(epochs_done, settings.epochs, steps, first_step)
    parallel = experiment.config.run.parallel
    program = compile_epoch(
        experiment.recommender, layout, parallel, experiment.optimizer, experiment.sampling
    )
    key = layout.replicate(run_key(settings.seed))

    def train_stack(state: TrainState, batches: Batch) -> tuple[TrainState, Losses]:
        if experiment.is_stream:
            batches = whole_batch(batches, layout)
        return program(state, batches, key, relations)

    return epoch_starter(
        stacks,
        train=profiler.over(train_stack),
        validate=lambda state: validation.start(state.eval_params, state.hparams),
        between=between,
        done=losses,
        stacks_ahead=STREAM_STACKS if experiment.is_stream else None,
    )


def _epoch_line(epoch: RunningEpoch, experiment: Experiment) -> dict[str, Any]:
    """Step and mean losses of an epoch; waits for the devices.

    Raises:
      UserError: naming the step, if a loss is not a number or training has diverged.
    """
    try:
        num_items = experiment.histories.num_items
        return losses_line(epoch.all_losses(), int(epoch.state.step), num_items)
    except FloatingPointError as error:
        raise DivergenceError(f"{error}: {_DIVERGED}") from None


def _validation_line(validation: AnyEvaluator, epoch: RunningEpoch) -> dict[str, float]:
    """Validation metrics; raises UserError naming the step, if a score is not a number."""
    try:
        ranks_U = validation.finish(epoch.ranks)
    except FloatingPointError as error:
        raise DivergenceError(f"after step {int(epoch.state.step)} {error}: {_DIVERGED}") from None
    return metrics_line("valid", ranks_U)
