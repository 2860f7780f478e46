"""The teacher as recommender, its rows normalised: the share of each item after the newest one.

The order is that of `transition`, as only one row takes part; the scores are probabilities.
"""

import numpy as np
import scipy.sparse

from mqsa_jax.zoo.spec import ModelSpec


def counting(experiment):
    """Rows of the counts divided by their sums; rows without transitions stay empty."""
    from mqsa_jax.inference.counting import Counting

    counts = experiment.transition_counts().to_scipy()
    total_V = np.maximum(counts.sum(axis=1), np.finfo(float).tiny)
    return Counting(scipy.sparse.diags_array(1 / total_V, format="csr") @ counts)


spec = ModelSpec("transition shares from the newest item; not trained", counting=counting)
