"""Recommenders that are counted, not trained: transitions from the latest items, popularity.

score(u, j) = prior_j + sum_k decay^k M[item k steps before the newest of u, j],  k = 0 .. K - 1
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mqsa_jax.config import Config
from mqsa_jax.data import splits
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.models.relations import teacher_counts, term_counts
from mqsa_jax.models.transition_term import normalised


@dataclasses.dataclass(frozen=True, eq=False)
class CountedModel:
    """What such a recommender is made of."""

    matrix: scipy.sparse.csr_array
    """[V, V] M."""
    decay: float = 1.0
    """Weight of one item further back."""
    num_recent: int = 1
    """K; 0: the prior alone."""
    prior: np.ndarray | None = None
    """[V] score of each item for everybody; None: 0."""

    def scores(self, item_N: np.ndarray, inputs: splits.Slices) -> scipy.sparse.csr_array:
        """[B, V] sparse scores without the prior.

        Args:
          item_N: [N] item indices of all histories.
          inputs: [B] slices of them, oldest item first.
        """
        users, items, weights = [], [], []
        for back in range(self.num_recent):
            source = inputs.end - 1 - back
            (user,) = np.nonzero(source >= inputs.begin)
            users.append(user)
            items.append(item_N[source[user]])
            weights.append(np.full(user.size, self.decay**back))
        shape = (len(inputs.end), self.matrix.shape[0])
        if not users:
            return scipy.sparse.csr_array(shape)
        index = (np.concatenate(users), np.concatenate(items))
        recent = scipy.sparse.csr_array((np.concatenate(weights), index), shape=shape)
        return (recent @ self.matrix).tocsr()


def count_model(config: Config, data: Dataset) -> CountedModel:
    """The counted model that `config.model.model` names, from the training items."""
    match config.model.model:
        case "popular":
            return _popular(config, data)
        case "transition":
            # The teacher itself as recommender: C[last item].
            return CountedModel(teacher_counts(data, config).to_scipy())
        case "transition-rows":
            return _transition_rows(config, data)
        case "transition-paths":
            # The term of `mqsa-ted-plus` alone, with all entries of its matrix.
            term = config.term
            matrix = normalised(term_counts(data, config), term.term_popularity)[0]
            return CountedModel(matrix, term.term_decay, term.term_items)
    raise ValueError(f"{config.model.model} is trained, not counted")


def _popular(config: Config, data: Dataset) -> CountedModel:
    """How often each item occurs in training."""
    nothing = scipy.sparse.csr_array((data.num_items, data.num_items))
    prior_V = splits.item_counts(data, config.model.max_len)
    return CountedModel(nothing, num_recent=0, prior=prior_V)


def _transition_rows(config: Config, data: Dataset) -> CountedModel:
    """Rows of the counts divided by their sums; rows without transitions stay empty."""
    counts = teacher_counts(data, config).to_scipy()
    total_V = np.maximum(counts.sum(axis=1), np.finfo(float).tiny)
    return CountedModel(scipy.sparse.diags_array(1 / total_V, format="csr") @ counts)


def recommendable(score_BV: Float[Any, "*B V"]) -> Float[Any, "*B V"]:
    """The scores [..., B, V] of a counted model, -inf where they are 0; a JAX or NumPy array.

    Items of score 0 tie, and which of them came first in a list would be chance.
    """
    xp = score_BV.__array_namespace__()
    return xp.where(score_BV > 0, score_BV, -xp.inf).astype(score_BV.dtype)
