"""Sequential recommendation on JAX: MQSA-TED (Zhu et al., WSDM 2024, arXiv 2311.01056).

The public names below are imported when they are first used, so that importing the package, as the
command line does, does not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqsa_jax.config import Config as Config
    from mqsa_jax.data.batches import Batch as Batch
    from mqsa_jax.data.batches import BatchSource as BatchSource
    from mqsa_jax.data.histories import Histories as Histories
    from mqsa_jax.data.histories import make_histories as make_histories
    from mqsa_jax.data.histories import read_histories as read_histories
    from mqsa_jax.data.multi_step import multi_step as multi_step
    from mqsa_jax.data.sequences import Sequences as Sequences
    from mqsa_jax.data.sources import load_histories as load_histories
    from mqsa_jax.data.transitions import TransitionCounts as TransitionCounts
    from mqsa_jax.data.transitions import count_transitions as count_transitions
    from mqsa_jax.errors import UserError as UserError
    from mqsa_jax.export.loading import load_model as load_model
    from mqsa_jax.inference.ranks import target_ranks as target_ranks
    from mqsa_jax.inference.ranks import top_items as top_items
    from mqsa_jax.layers.attention import l_query_attention as l_query_attention
    from mqsa_jax.layers.windowed_mean import windowed_mean as windowed_mean
    from mqsa_jax.losses.distillation import distillation_loss as distillation_loss
    from mqsa_jax.losses.metrics import hit_rate as hit_rate
    from mqsa_jax.losses.metrics import ndcg as ndcg
    from mqsa_jax.losses.metrics import reciprocal_rank as reciprocal_rank
    from mqsa_jax.losses.negatives import ItemFrequency as ItemFrequency
    from mqsa_jax.losses.negatives import Negatives as Negatives
    from mqsa_jax.losses.negatives import popularity_negatives as popularity_negatives
    from mqsa_jax.losses.negatives import uniform_negatives as uniform_negatives
    from mqsa_jax.losses.negatives import with_in_batch as with_in_batch
    from mqsa_jax.losses.ranking import ranking_loss as ranking_loss
    from mqsa_jax.losses.sampled_distillation import (
        sampled_distillation_loss as sampled_distillation_loss,
    )
    from mqsa_jax.losses.sampled_ranking import gbce_loss as gbce_loss
    from mqsa_jax.losses.sampled_ranking import sampled_ranking_loss as sampled_ranking_loss
    from mqsa_jax.losses.teacher import Teacher as Teacher
    from mqsa_jax.losses.teacher import teacher_probabilities as teacher_probabilities
    from mqsa_jax.losses.teacher import transition_teacher as transition_teacher
    from mqsa_jax.models.item_vectors import item_vectors as item_vectors
    from mqsa_jax.models.recommender import Recommender as Recommender
    from mqsa_jax.models.recommender import apply as apply
    from mqsa_jax.models.recommender import init as init
    from mqsa_jax.models.recommender import scores as scores
    from mqsa_jax.models.relations import item_relations as item_relations
    from mqsa_jax.ops.sparse_logits import SparseLogits as SparseLogits

__version__ = "0.1.0"

_MODULES = {
    "config": ("Config",),
    "data.batches": ("Batch", "BatchSource"),
    "data.histories": ("Histories", "make_histories", "read_histories"),
    "data.sources": ("load_histories",),
    "data.multi_step": ("multi_step",),
    "data.sequences": ("Sequences",),
    "data.transitions": ("TransitionCounts", "count_transitions"),
    "errors": ("UserError",),
    "export.loading": ("load_model",),
    "inference.ranks": ("target_ranks", "top_items"),
    "layers.attention": ("l_query_attention",),
    "layers.windowed_mean": ("windowed_mean",),
    "losses.distillation": ("distillation_loss",),
    "losses.metrics": ("hit_rate", "ndcg", "reciprocal_rank"),
    "losses.negatives": (
        "ItemFrequency",
        "Negatives",
        "popularity_negatives",
        "uniform_negatives",
        "with_in_batch",
    ),
    "losses.ranking": ("ranking_loss",),
    "losses.sampled_distillation": ("sampled_distillation_loss",),
    "losses.sampled_ranking": ("gbce_loss", "sampled_ranking_loss"),
    "losses.teacher": ("Teacher", "teacher_probabilities", "transition_teacher"),
    "models.item_vectors": ("item_vectors",),
    "models.recommender": ("Recommender", "apply", "init", "scores"),
    "models.relations": ("item_relations",),
    "ops.sparse_logits": ("SparseLogits",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_HOMES)


if not TYPE_CHECKING:  # Type checkers take any name for one that `__getattr__` gives.

    def __getattr__(name: str):
        """Imports a public name from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *__all__])
