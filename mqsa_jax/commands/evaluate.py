"""`eval`: evaluates the best epoch of a run."""

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from typing import Literal

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.config import ExcludeSeen
from mqsa_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What eval.py is asked for."""

    run_dir: str
    """Folder of a run of train.py."""
    split: Literal["test", "valid"] = "test"
    """Held-out item to look for: the last of each history, or the one before it."""
    exclude_seen: ExcludeSeen | None = None
    """Left out of the ranking: all items consumed before, those in the last max_len, or none
    (default: as in training)."""
    top: int = 0
    """Also writes this many best items of each user to recommendations.npz; 0: none."""
    ablation: bool = False
    """Also writes the validation metrics without each ingredient of mqsa-ted-plus."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    devices: int | None = None
    """Local devices to use (default: all of them)."""


def eval_main(arguments: Sequence[str] | None = None) -> int:
    """Runs eval.py; returns its exit code."""
    return run_command("eval.py", _evaluate, sys.argv[1:] if arguments is None else arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    """Ranks every user's held-out item among all items with the best epoch of a run."""
    options = parse("eval.py", EvalConfig, arguments, _evaluate.__doc__)

    from mqsa_jax.commands.result_table import print_result
    from mqsa_jax.data.coverage import warn_of_consumed_targets
    from mqsa_jax.inference.evaluation import Protocol
    from mqsa_jax.runs.run_directory import RunDirectory
    from mqsa_jax.training.ablation import check_ablation, leave_out
    from mqsa_jax.training.counted import counted_top_items, evaluate_counted
    from mqsa_jax.training.experiment import Experiment
    from mqsa_jax.training.loop import restore_best

    if options.top < 0:
        raise UserError(f"--top must be 0 or above, got {options.top}")
    run_dir = RunDirectory(options.run_dir)
    config = run_dir.config()
    data_dir = options.data_dir or config.run.data_dir
    run = dataclasses.replace(config.run, data_dir=data_dir, devices=options.devices)
    config = dataclasses.replace(config, run=run)
    config.validate()
    if options.ablation:
        check_ablation(config)
    experiment = Experiment.load(config)
    own = experiment.protocol(options.split)
    protocol = Protocol(options.split, options.exclude_seen or own.exclude_seen)
    warn_of_consumed_targets(experiment.histories, protocol.exclude_seen, config.model.max_len)
    if options.top > experiment.histories.num_items:
        raise UserError(f"--top {options.top} is more than {experiment.histories.num_items} items")
    if experiment.spec.counted:
        result = evaluate_counted(experiment, protocol, run_dir)
        best = partial(counted_top_items, experiment, protocol)
    else:
        state, epoch = restore_best(experiment, run_dir)
        relations = experiment.relations()
        result = experiment.evaluate(state, epoch, protocol, run_dir, relations)
        evaluator = experiment.evaluator(protocol, relations)
        best = partial(evaluator.top_items, state.eval_params, state.hparams)
        if options.ablation:
            run_dir.write_ablation(leave_out(experiment, state, relations))
    if options.top:
        name = protocol.result_name(own.exclude_seen)
        run_dir.write_recommendations(name, experiment.histories, best(options.top))
    print_result(config.dataset, result, run_dir.path)
