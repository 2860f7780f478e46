"""Results of an experiment: all users ranked, summarised, and written to the run's folder."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.data.coverage import consumed_targets, untrained_targets
from mqsa_jax.data.splits import evaluated_users
from mqsa_jax.devices import fetch
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stored_attributes import write_attributes
from mqsa_jax.inference.stored_model import write_counts, write_relations
from mqsa_jax.losses.metrics import CUTOFFS, summarise
from mqsa_jax.models.item_vectors import item_vectors
from mqsa_jax.models.placement import cut
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.runs.provenance import provenance, versions
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.beyond_accuracy import Figures, beyond_accuracy
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import TrainState

DEFAULT = Figures()
"""What training and plain evaluation work out."""


def evaluate(
    experiment: Experiment,
    state: TrainState,
    epoch: int,
    protocol: Protocol,
    run_dir: RunDirectory,
    relations: ItemRelations | None = None,
    figures: Figures = DEFAULT,
) -> dict[str, Any]:
    """Ranks all users; writes the result, and what `load_run` needs, to the run's folder.

    Args:
      experiment: configuration, data and devices.
      state: what is evaluated, with the moving average in place of the parameters if there is one.
      epoch: after which the state was saved.
      protocol: the split, and what is left out of the rankings.
      run_dir: the run's folder.
      relations: of the experiment; made if not at hand.
      figures: what is worked out.

    Returns:
      The result, as written to `SPLIT_metrics.json`.
    """
    relations = relations or experiment.relations()
    write_model_data(experiment, relations, run_dir)
    evaluator = experiment.evaluator(protocol, relations)
    if figures.longest is None:
        ranks_U = evaluator.ranks(state.eval_params, state.hparams)
        return record(experiment, ranks_U, epoch, protocol, run_dir, figures)
    ranks_U, list_UK = evaluator.ranks_and_lists(state.eval_params, state.hparams, figures.longest)
    model = experiment.recommender.in_float32()
    params = jax.tree.map(jnp.asarray, cut(fetch(state.eval_params), model.num_items))
    item_VD = np.asarray(item_vectors(model, params, relations))
    return record(experiment, ranks_U, epoch, protocol, run_dir, figures, list_UK, item_VD)


def write_model_data(
    experiment: Experiment, relations: ItemRelations, run_dir: RunDirectory
) -> None:
    """Writes what scores and reasons depend on beside the parameters, for use without the data."""
    data = experiment.histories
    write_relations(run_dir, relations, data)
    write_attributes(run_dir, data)
    write_counts(run_dir, experiment.transition_counts, data, experiment.config.model.max_len)


def record(
    experiment: Experiment,
    ranks_U: np.ndarray,
    epoch: int,
    protocol: Protocol,
    run_dir: RunDirectory,
    figures: Figures = DEFAULT,
    list_UK: np.ndarray | None = None,
    item_VD: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes what ranks [U], and lists [U, K] if there are any, come to; returns it.

    HR and NDCG at 5, 10, 20 are always there, whatever cutoffs are asked for.
    """
    histories, config = experiment.histories, experiment.config
    policy, max_len = protocol.exclude_seen, config.model.max_len
    split, sample = protocol.split, protocol.sample
    user_ids = evaluated_users(histories, split, sample)
    result = {
        **summarise(ranks_U, sorted({*CUTOFFS, *figures.cutoffs})),
        "split": split,
        "exclude_seen": policy,
        "ranking": "full",
        "users": len(user_ids),
        "items": histories.num_items,
        "consumed_targets": consumed_targets(histories, split, policy, max_len, sample),
        "untrained_targets": untrained_targets(histories, split, max_len, sample),
        "epoch": epoch,
        "data_fingerprint": histories.fingerprint(),
        "versions": versions(),
        "provenance": provenance(experiment.layout.devices),
    }
    if sample:
        result["drawn_users"] = sample
    if list_UK is not None:
        result["beyond_accuracy"] = beyond_accuracy(
            histories, protocol, max_len, ranks_U, list_UK, item_VD, figures.cutoffs
        )
    name = protocol.result_name(config.evaluation.exclude_seen)
    run_dir.write_result(name, result, user_ids, ranks_U)
    return result
