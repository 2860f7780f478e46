"""The transition term's weight, chosen on validation once training has ended.

The best weight depends on the data more than any other setting: where item vectors have many steps
to learn, the term should add little; where histories are few, it may do better alone. The encoder
of `mqsa-ted-plus` trains without the term, so that the choice needs no training.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from mqsa_jax.losses import metrics
from mqsa_jax.models.recommender import Params
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import TrainState

FACTORS = (1.0, 0.0, 0.25, 0.5, 2.0)
"""Of the configured weight, that are compared; the first of equally good ones is taken."""
_CUTOFF = 20
"""K of the NDCG that is compared, which also stops training."""


def chooses_term(experiment: Experiment) -> bool:
    """Whether the run has a term, and chooses its weight."""
    term = experiment.config.term
    return term.choose_term_weight and term.term_items > 0


def choose_term_factor(
    experiment: Experiment, state: TrainState, relations: ItemRelations
) -> float:
    """The factor of `FACTORS` with the best validation NDCG@20; prints what was compared.

    Args:
      experiment: of the run.
      state: of its best epoch, with the configured weight.
      relations: of the run.
    """
    evaluator = experiment.evaluator(experiment.protocol("valid"), relations)
    ndcg = {}
    for factor in FACTORS:
        params = with_term_factor(state.eval_params, factor)
        ndcg[factor] = float(metrics.ndcg(evaluator.ranks(params, state.hparams), _CUTOFF))
    chosen = max(ndcg, key=ndcg.get)
    weight = experiment.config.term.term_weight
    compared = ", ".join(f"{factor * weight:g}: {ndcg[factor]:.4f}" for factor in sorted(ndcg))
    print(
        f"Weight of the transition term: {chosen * weight:g} (validation NDCG@20 of {compared})",
        flush=True,
    )
    return chosen


def choose_term_factors(
    ranks_of: Callable[[Params], Float[Array, "P U"]], params: Params
) -> Float[np.ndarray, " P"]:
    """[P] the same for each trial of a population.

    Args:
      ranks_of: validation ranks of stacked parameters.
      params: [P, ...] of the trials' best epochs; a trial with NaN scores gets the first factor.
    """
    ndcg_FP = np.array(
        [
            [float(metrics.ndcg(rank_U, _CUTOFF)) for rank_U in np.asarray(ranks)]
            for ranks in (ranks_of(with_term_factor(params, factor)) for factor in FACTORS)
        ]
    )
    return np.array(FACTORS)[np.nan_to_num(ndcg_FP).argmax(axis=0)]
