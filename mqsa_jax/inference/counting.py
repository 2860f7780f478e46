"""Recommenders that are counted, not trained: transitions from the latest items, popularity.

score(u, j) = prior_j + sum_k decay^k M[item k steps before the newest of u, j],  k = 0 .. K - 1
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.inference.evaluation import (
    Protocol,
    Visit,
    build_evaluation_set,
    by_user,
    top_visit,
)
from mqsa_jax.inference.ranking import target_ranks
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.run_dir import RunDirectory


@dataclasses.dataclass(frozen=True, eq=False)
class Counting:
    """What such a recommender is made of."""

    matrix: scipy.sparse.csr_array
    """[V, V] M."""
    decay: float = 1.0
    """Weight of one item further back."""
    num_recent: int = 1
    """K; 0: the prior alone."""
    prior: np.ndarray | None = None
    """[V] score of each item for everybody; None: 0."""

    def scores(self, histories: Histories, split: splits.Split, max_len: int) -> Any:
        """[U, V] sparse scores without the prior."""
        inputs = splits.window(histories, split, max_len)
        users, items, weights = [], [], []
        for back in range(self.num_recent):
            source = inputs.end - 1 - back
            (user,) = np.nonzero(source >= inputs.begin)
            users.append(user)
            items.append(histories.items[source[user]])
            weights.append(np.full(user.size, self.decay**back))
        shape = (histories.num_users, histories.num_items)
        if not users:
            return scipy.sparse.csr_array(shape)
        places = (np.concatenate(users), np.concatenate(items))
        recent = scipy.sparse.csr_array((np.concatenate(weights), places), shape=shape)
        return (recent @ self.matrix).tocsr()


def count_and_test(experiment: Experiment, run_dir: RunDirectory) -> dict[str, Any]:
    """Evaluates on both splits; returns the test result, as written to `test_metrics.json`."""
    run_dir.start(experiment.config)
    run_dir.write_history([])
    evaluate_counting(experiment, Protocol("valid"), run_dir)
    return evaluate_counting(experiment, Protocol("test"), run_dir)


def evaluate_counting(
    experiment: Experiment, protocol: Protocol, run_dir: RunDirectory
) -> dict[str, Any]:
    """Ranks all users and writes the result to the run's folder."""
    ranks_U = counting_ranks(experiment, protocol)
    return experiment.record(ranks_U, 0, protocol, run_dir)


def counting_ranks(experiment: Experiment, protocol: Protocol) -> np.ndarray:
    """[U] rank of every user's target."""
    return _visit_users(experiment, protocol, target_ranks)


def counting_top_items(experiment: Experiment, protocol: Protocol, k: int) -> np.ndarray:
    """[U, k] int32 items that each user scores highest, best first, without those seen."""
    return _visit_users(experiment, protocol, top_visit(k))


def _visit_users(experiment: Experiment, protocol: Protocol, visit: Visit) -> np.ndarray:
    histories, max_len = experiment.histories, experiment.config.model.max_len
    counting = experiment.spec.counting(experiment)
    score_UV = counting.scores(histories, protocol.split, max_len)
    data = build_evaluation_set(histories, protocol, max_len, 1)
    results, visit_chunk = [], jax.jit(visit)
    chunks = len(data.target)
    for chunk in range(chunks):
        # As the chunks are dealt: every so many users one.
        own_UV = score_UV[chunk::chunks].toarray()
        own_UV += 0 if counting.prior is None else counting.prior
        dense_BV = np.zeros((data.target.shape[-1], histories.num_items), np.float32)
        dense_BV[: len(own_UV)] = own_UV
        known = (array[chunk, 0] for array in (data.target, data.seen_user, data.seen_item))
        results.append(visit_chunk(dense_BV, *known))
    return by_user(np.stack(results)[:, None], histories.num_users)
