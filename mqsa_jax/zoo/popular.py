"""The most popular items of the training part, to everybody."""

import numpy as np
import scipy.sparse

from mqsa_jax.data import splits
from mqsa_jax.zoo.spec import ModelSpec


def counting(experiment):
    """How often each item occurs in training."""
    from mqsa_jax.inference.counting import Counting

    histories = experiment.histories
    _, source_N = splits.window(histories, "train", experiment.config.model.max_len).flat_index()
    prior_V = np.bincount(histories.items[source_N], minlength=histories.num_items)
    nothing = scipy.sparse.csr_array((histories.num_items, histories.num_items))
    return Counting(nothing, num_recent=0, prior=prior_V)


spec = ModelSpec("most popular items; not trained", counting=counting)
