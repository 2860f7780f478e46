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

from mqsa_jax.data.batches import Batch
from mqsa_jax.errors import DataError, DivergenceError, FolderError, UserError
from mqsa_jax.inference.stored_model import write_counts, write_relations
from mqsa_jax.inference.stream_evaluation import AnyEvaluator
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.runs.best_checkpoint import best_checkpoint, check_config, resume_point
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.history import best_epoch, is_finished, with_no_better
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.process_shares import whole_batch
from mqsa_jax.training.progress import Progress
from mqsa_jax.training.results import evaluate
from mqsa_jax.training.running_epoch import (
    RunningEpoch,
    epoch_starter,
    losses_line,
    metrics_line,
)
from mqsa_jax.training.state import TrainState, run_key
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
    checkpoints = Checkpoints(run_dir.checkpoints)
    try:
        start = _start(experiment, run_dir, checkpoints, resume)
        run_dir.start(experiment.config, experiment.histories.fingerprint())
        state, history = _run_epochs(experiment, run_dir, checkpoints, start)
        best = best_epoch(history)
        if best != len(history):
            problem = checkpoints.problem(best)
            if problem:
                raise UserError(
                    f"{problem}, and epoch {best} is the best; restore it or train again"
                )
            state = checkpoints.restore(best, state, experiment.histories)
        relations = experiment.relations()
        if chooses_term(experiment):
            factor = choose_term_factor(experiment, state, relations)
            run_dir.record_best(best, checkpoints.manifest_digest(best), term_factor=factor)
            state = state.with_term_factor(factor)
        return evaluate(experiment, state, best, experiment.protocol("test"), run_dir, relations)
    finally:
        checkpoints.close()


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
    if data_fingerprint != experiment.histories.fingerprint():
        raise DataError("the run was trained on other data (fingerprints differ)")


def _start(
    experiment: Experiment, run_dir: RunDirectory, checkpoints: Checkpoints, resume: bool
) -> _Resumed:
    """The state to go on from, and what led to it; nothing is written if it does not fit."""
    state = experiment.initial_state()
    epoch, snapshot = resume_point(run_dir, checkpoints) if resume else (0, None)
    if snapshot is None:
        if experiment.config.training.init_from is not None:
            source = check_warm_start(experiment, run_dir)
            state, origins = experiment.warm_state(source)
            print(describe(source, origins), flush=True)
        checkpoints.discard_after(0)
        return _Resumed(state, [])
    _check_data(experiment, snapshot.data_fingerprint)
    check_config(run_dir, experiment.config, snapshot, epoch)
    _check_length(experiment, run_dir, snapshot.history)
    state = checkpoints.restore(epoch, state, experiment.histories)
    checkpoints.discard_after(epoch)
    return _Resumed(state, snapshot.history)


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
    experiment: Experiment, run_dir: RunDirectory, checkpoints: Checkpoints, start: _Resumed
) -> tuple[TrainState, list[dict[str, Any]]]:
    settings = experiment.config.training
    # Frees the first state: the devices already hold those of the current and of the next epoch.
    state, start.state = start.state, None
    history = list(start.history)
    _write_history(run_dir, checkpoints, history)
    if is_finished(history, settings.epochs, settings.patience):
        return state, history
    run_dir.delete_results()
    relations = experiment.relations()
    validation = experiment.evaluator(experiment.protocol("valid"), relations)
    start_epoch = _epoch_starter(experiment, relations, validation, len(history))
    write_relations(run_dir, relations, experiment.histories)
    max_len = experiment.config.model.max_len
    write_counts(run_dir, experiment.transition_counts, experiment.histories, max_len)
    running, ended = start_epoch(state), 0.0
    with Progress(run_dir.events, len(history), settings.epochs) as progress:
        while running is not None:
            state, upcoming = running.state, None
            # The devices never wait: an epoch that is sure to come starts before this one is read.
            # Not that of a stream, which would be all but over before this one is saved.
            if not experiment.is_stream and not is_finished(
                with_no_better(history), settings.epochs, settings.patience
            ):
                upcoming = start_epoch(state)
            line = {"epoch": len(history) + 1, **_epoch_line(running, experiment)}
            # From the end of the epoch before, or the start of this one if later, to its end. The
            # devices validate the epoch before meanwhile.
            began, ended = max(running.began, ended), time.perf_counter()
            line["seconds"] = round(ended - began, 3)
            history.append(line | _validation_line(validation, running))
            _save(experiment, run_dir, checkpoints, state, history)
            progress.show(history[-1], best_epoch(history))
            if upcoming is None and not is_finished(history, settings.epochs, settings.patience):
                upcoming = start_epoch(state)
            running = upcoming
    return state, history


def _epoch_starter(
    experiment: Experiment, relations: ItemRelations, validation: AnyEvaluator, epochs_done: int
) -> Callable[[TrainState], RunningEpoch]:
    """A function that starts the next epoch and its validation from a state, and does not wait."""
    settings, layout = experiment.config.training, experiment.layout
    source = experiment.batch_source()
    stacks = source.epochs(epochs_done, settings.epochs, STEPS_PER_PROGRAM)
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
        train=train_stack,
        validate=lambda state: validation.start(state.eval_params, state.hparams),
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


def _save(
    experiment: Experiment,
    run_dir: RunDirectory,
    checkpoints: Checkpoints,
    state: TrainState,
    history: list[dict[str, Any]],
) -> None:
    """Saves an epoch, then tells of it in the run's files, then deletes what is not needed."""
    epoch = len(history)
    snapshot = Snapshot(
        history=history,
        config=experiment.config.stored(),
        seed=experiment.config.training.seed,
        data_fingerprint=experiment.histories.fingerprint(),
    )
    checkpoints.save(epoch, state, experiment.histories, snapshot)
    _write_history(run_dir, checkpoints, history)
    # The best epoch before this one too: if this checkpoint is damaged, training goes on there.
    checkpoints.keep_only({epoch, epoch - 1, best_epoch(history), best_epoch(history[:-1])})


def _write_history(
    run_dir: RunDirectory, checkpoints: Checkpoints, history: list[dict[str, Any]]
) -> None:
    """Writes the history, and which epoch of it is best."""
    best = best_epoch(history)
    if best:
        run_dir.record_best(best, checkpoints.manifest_digest(best))
    run_dir.write_history(history)
