"""Ablation of a trained `mqsa-ted-plus`: its validation metrics with a part left out or changed.

Parts that do not affect training need no new training: the average of the parameters, and the
transition term, beside which the encoder trains alone. The epoch stays that of the whole recipe.
"""

import dataclasses
from typing import Any

from mqsa_jax.config import Config
from mqsa_jax.errors import SettingError
from mqsa_jax.grid import with_flags
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params
from mqsa_jax.models.registry import MODELS
from mqsa_jax.models.relations import ItemRelations, term_neighbours
from mqsa_jax.models.transition_term import term_init
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import TrainState

RELATION_FLAGS = {
    "term_items",
    "term_span",
    "term_span_decay",
    "term_popularity",
    "term_symmetric",
    "term_neighbours",
}
"""Flags that the neighbours of the term depend on."""


def check_ablation(config: Config) -> None:
    """Raises SettingError unless the run's term can be left out of it."""
    counted = MODELS[config.model.model].counted
    if counted or not config.term.term_items or config.term.term_dropout < 1:
        raise SettingError(
            "{ablation} needs a run whose encoder trained alone beside a term: "
            "{model} mqsa-ted-plus with {term_dropout} 1"
        )


def variants(config: Config) -> dict[str, dict[str, Any]]:
    """By name, the flags in which each variant differs from the recipe; the recipe first."""
    term = config.term
    without_term, without_average = {"term_items": 0}, {"ema_decay": 0.0}
    found = {
        "the recipe": {},
        "without the term": without_term,
        "without the average": without_average,
        "without both": without_term | without_average,
        "term of the last item alone": {"term_items": 1},
        "term of direct successors alone": {"term_span": 1},
        "term that does not damp frequent items": {"term_popularity": 0.0},
        "term that counts backwards too": {"term_symmetric": 0.5},
        "half of the neighbours": {"term_neighbours": max(term.term_neighbours // 2, 1)},
        "twice the neighbours": {"term_neighbours": 2 * term.term_neighbours},
        "half of the weight": {"term_weight": term.term_weight / 2},
        "twice the weight": {"term_weight": 2 * term.term_weight},
    }
    now = config.flat()
    return {
        name: flags
        for name, flags in found.items()
        if not flags or any(now[flag] != value for flag, value in flags.items())
    }


def leave_out(
    experiment: Experiment, state: TrainState, relations: ItemRelations
) -> list[dict[str, Any]]:
    """Validation metrics of each variant: its name, its flags, HR@K, NDCG@K and MRR.

    Args:
      experiment: of the whole recipe.
      state: of its best epoch.
      relations: of the whole recipe; variants that change its term alone make their own neighbours.
    """
    evaluator, rows = experiment.evaluator(experiment.protocol("valid"), relations), []
    for name, flags in variants(experiment.config).items():
        other = dataclasses.replace(experiment, config=with_flags(experiment.config, **flags))
        own = relations
        if flags.keys() & RELATION_FLAGS:
            neighbours = term_neighbours(other.histories, other.config)
            own = other.placed(ItemRelations(relations.graph, neighbours))
        variant = evaluator.of_model(other.recommender.in_float32(), own)
        ranks = variant.ranks(_params(other, state), HParams.of(other.config))
        rows.append({"name": name, "flags": flags, **summarise(ranks)})
    return rows


def _params(experiment: Experiment, state: TrainState) -> Params:
    """The trained parameters, with those of the variant's term."""
    params = state.eval_params if experiment.with_ema else state.params
    params = {name: leaf for name, leaf in params.items() if name != "transition_term"}
    term = experiment.config.term
    if term.term_items:
        weights = term_init(term.term_weight, term.term_decay, term.term_items)
        params["transition_term"] = weights
    return params
