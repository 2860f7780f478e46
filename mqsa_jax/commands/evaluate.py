"""`eval`: evaluates the best epoch of a run."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from mqsa_jax.commands.command_line import numbers, parse, run_command
from mqsa_jax.commands.run_place import with_place
from mqsa_jax.config import ExcludeSeen, RunConfig, ShardItems
from mqsa_jax.errors import DataError, UserError


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The flags of the command."""

    run_dir: str
    """Folder of a run."""
    split: Literal["test", "valid"] = "test"
    """Held-out item to look for: the last of each history, or the one before it."""
    exclude_seen: ExcludeSeen | None = None
    """Left out of the ranking: all items consumed before, those in the last max_len, or none
    (default: as in training)."""
    cutoffs: str = "5,10,20"
    """K of HR@K and NDCG@K, with commas between them; the result file has 5, 10 and 20 too."""
    beyond_accuracy: bool = False
    """Also coverage, novelty, popularity bias and diversity of the lists, and metrics by group."""
    ablation: bool = False
    """Also writes the validation metrics without each part of mqsa-ted-plus."""
    dataset: str | None = None
    """File of the run's data, where it lies now (default: as in training)."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    item_attributes: str | None = None
    """File of the items' attributes, where it lies now (default: as in training)."""
    user_traits: str | None = None
    """File of the users' traits, where it lies now (default: as in training)."""
    devices: int | None = None
    """Local devices to use (default: all of them)."""
    mesh: str = RunConfig.mesh
    """Devices along the axes of the mesh; -1 for one of them: as many as there are."""
    shard_items: ShardItems = RunConfig.shard_items
    """Axes that item tables are split over: model, or all of them."""


def eval_main(arguments: Sequence[str] | None = None, program: str = "eval.py") -> int:
    """Runs the command under a program's name; returns its exit code."""
    hints = {DataError: "--dataset names the file that the run was trained on"}
    return run_command(program, _evaluate, arguments, hints)


def _evaluate(program: str, arguments: Sequence[str]) -> None:
    """Ranks every user's held-out item among all items with the best epoch of a run."""
    options = parse(program, EvalConfig, arguments, _evaluate.__doc__)
    cutoffs = _cutoffs(options.cutoffs)

    from mqsa_jax.commands.result_table import print_result
    from mqsa_jax.data.coverage import warn_of_consumed_targets
    from mqsa_jax.inference.evaluation_set import Protocol
    from mqsa_jax.runs.files import locked
    from mqsa_jax.runs.run_directory import RunDirectory
    from mqsa_jax.training.ablation import check_ablation, leave_out
    from mqsa_jax.training.beyond_accuracy import Figures
    from mqsa_jax.training.counted_runs import evaluate_counted
    from mqsa_jax.training.experiment import Experiment
    from mqsa_jax.training.loop import restore_best
    from mqsa_jax.training.results import evaluate

    run_dir = RunDirectory(options.run_dir)
    config = run_dir.config()
    config = with_place(config, options)
    if options.ablation:
        check_ablation(config)
    with locked(run_dir.path):
        experiment = Experiment.load(config)
        num_items = experiment.histories.num_items
        run_dir.check_data(experiment.histories.inputs_fingerprint())
        own = experiment.protocol(options.split)
        policy = options.exclude_seen or own.exclude_seen
        protocol = Protocol(options.split, policy, own.sample)
        max_len = config.model.max_len
        warn_of_consumed_targets(experiment.histories, policy, max_len, own.sample)
        figures = Figures(cutoffs, options.beyond_accuracy)
        if figures.longest and figures.longest > num_items:
            raise UserError(f"--cutoffs {figures.longest} is more than {num_items} items")
        if experiment.spec.counted:
            result = evaluate_counted(experiment, protocol, run_dir, figures)
        else:
            state, epoch = restore_best(experiment, run_dir)
            relations = experiment.relations()
            result = evaluate(experiment, state, epoch, protocol, run_dir, relations, figures)
            if options.ablation:
                run_dir.write_ablation(leave_out(experiment, state, relations))
    print_result(config.dataset, result, run_dir.path, cutoffs)


def _cutoffs(text: str) -> tuple[int, ...]:
    """Each once, ascending. Raises UserError if one is no whole number of at least 1."""
    cutoffs = tuple(sorted(numbers("cutoffs", text, int)))
    if cutoffs[0] < 1:
        raise UserError(f"--cutoffs must be at least 1 each, got {text}")
    return cutoffs
