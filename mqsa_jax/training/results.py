"""Results of an experiment: all users ranked, summarised, and written to the run's folder."""

from typing import Any

import numpy as np

from mqsa_jax.data.coverage import consumed_targets, untrained_targets
from mqsa_jax.data.splits import with_target
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stored_model import write_relations
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.runs.provenance import provenance, versions
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import TrainState


def evaluate(
    experiment: Experiment,
    state: TrainState,
    epoch: int,
    protocol: Protocol,
    run_dir: RunDirectory,
    relations: ItemRelations | None = None,
) -> dict[str, Any]:
    """Ranks all users; writes the result, and what `load_run` needs, to the run's folder.

    Args:
      experiment: configuration, data and devices.
      state: what is evaluated, with the moving average in place of the parameters if there is one.
      epoch: after which the state was saved.
      protocol: the split, and what is left out of the rankings.
      run_dir: the run's folder.
      relations: of the experiment; made if not at hand.

    Returns:
      The result, as written to `SPLIT_metrics.json`.
    """
    relations = relations or experiment.relations()
    write_relations(run_dir, relations, experiment.histories)
    ranks_U = experiment.evaluator(protocol, relations).ranks(state.eval_params, state.hparams)
    return record(experiment, ranks_U, epoch, protocol, run_dir)


def record(
    experiment: Experiment,
    ranks_U: np.ndarray,
    epoch: int,
    protocol: Protocol,
    run_dir: RunDirectory,
) -> dict[str, Any]:
    """Writes what the ranks [U] of all users come to, to the run's folder; returns it."""
    histories, config = experiment.histories, experiment.config
    policy, max_len = protocol.exclude_seen, config.model.max_len
    evaluated = with_target(histories, protocol.split)
    result = {
        **summarise(ranks_U),
        "split": protocol.split,
        "exclude_seen": policy,
        "ranking": "full",
        "users": evaluated.num_users,
        "items": histories.num_items,
        "consumed_targets": consumed_targets(histories, protocol.split, policy, max_len),
        "untrained_targets": untrained_targets(histories, protocol.split, max_len),
        "epoch": epoch,
        "data_fingerprint": histories.fingerprint(),
        "versions": versions(),
        "provenance": provenance(experiment.layout.devices),
    }
    name = protocol.result_name(config.evaluation.exclude_seen)
    run_dir.write_result(name, result, evaluated.user_ids, ranks_U)
    return result
