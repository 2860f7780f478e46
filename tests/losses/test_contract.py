"""One contract for every loss and metric: `where=` and `reduce_fn=`, against float64 in NumPy."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.sparse

from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.layers.item_graph import item_graph, regularisation
from mqsa_jax.losses import metrics
from mqsa_jax.losses.distillation import distillation_loss
from mqsa_jax.losses.ranking import ranking_loss
from mqsa_jax.losses.reduction import mean
from mqsa_jax.losses.teacher import transition_teacher
from mqsa_jax.ops.sparse_logits import SparseLogits
from tests import oracle, transition_oracle

N, D, V, K = 6, 3, 6, 2
WHERE = np.array([True, True, False, True, False, False])
COTANGENT = np.array([0.5, -2.0, 7.0, 1.0, 9.0, 3.0], np.float32)
"""Of the values of rows, where `reduce_fn` is None."""
DENSE = np.random.default_rng(1).integers(0, 4, (V, V)) * 1.0
TEACHER = transition_teacher(TransitionCounts.from_scipy(scipy.sparse.csr_array(DENSE)), 0.5)
PAIRS = np.zeros((V, V))
"""Item 2 does not count but is a neighbour of one that does; 4 and 5 are neighbours alone."""
PAIRS[[0, 1, 2, 4], [1, 3, 1, 5]] = 2, 1, 1, 3
GRAPH = item_graph(TransitionCounts.from_scipy(scipy.sparse.csr_array(PAIRS)))


def root_mean_square(value, where):
    return (value**2).mean(where=where) ** 0.5


def log_of_sum(value, where):
    return jnp.log(value.sum(where=where))


REDUCTIONS = {
    "none": (None, None),
    "mean": (jnp.mean, np.mean),
    "mean of the package": (mean, mean),
    "sum": (jnp.sum, np.sum),
    "largest": (functools.partial(jnp.max, initial=0.0), functools.partial(np.max, initial=0.0)),
    "root mean square": (root_mean_square, root_mean_square),
    "log of the sum": (log_of_sum, lambda value, where: np.log(value.sum(where=where))),
}


@dataclasses.dataclass
class Case:
    """A loss or metric."""

    fn: Callable
    """Of floats, indices, `where` and `reduce_fn`."""
    rows: Callable
    """[N] value of each row, from floats and indices, in float64."""
    floats: dict[str, tuple[int, ...]]
    """Shapes of the arguments with gradients; those that begin with N have a row each."""
    indices: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    unread: tuple[int, ...] = (2, 4, 5)
    """Rows that may hold anything."""

    def arguments(self, rng):
        floats = {name: rng.normal(size=shape) for name, shape in self.floats.items()}
        if "rank_N" in floats:
            floats["rank_N"] = rng.integers(1, 20, N) + 0.25
            floats["rank_N"][0] = 2.25  # a hit, so that no sum is 0
        indices = {name: rng.integers(0, V, shape) for name, shape in self.indices.items()}
        return floats, indices


def ranking(floats, indices, **options):
    sparse = None
    if "value_NK" in floats:
        sparse = SparseLogits(indices["class_NK"], floats["value_NK"])
    arguments = floats["row_ND"], floats["item_VD"], indices["target_N"]
    return ranking_loss(*arguments, sparse=sparse, **options)


def ranking_rows(floats, indices):
    logits = floats["row_ND"] @ floats["item_VD"].T
    for n, k in np.ndindex(floats.get("value_NK", np.zeros((0, 0))).shape):
        logits[n, indices["class_NK"][n, k]] += floats["value_NK"][n, k]
    targets = indices["target_N"]
    rows = zip(logits, targets, strict=True)
    return np.array([-oracle.log_softmax(np.append(row, 0.0))[target] for row, target in rows])


def distillation(floats, indices, *, max_bumps, **options):
    arguments = floats["row_ND"], floats["item_VD"], indices["item_N"], TEACHER
    tau = 0.5 + floats["tau"] ** 2
    return distillation_loss(*arguments, tau, max_bumps=max_bumps, **options)


def distillation_rows(floats, indices):
    teacher_VV = transition_oracle.teacher_probabilities(DENSE, 0.5)
    logits = floats["row_ND"] @ floats["item_VD"].T / (0.5 + floats["tau"] ** 2)
    rows = zip(logits, indices["item_N"], strict=True)
    return np.array([-teacher_VV[item] @ oracle.log_softmax(row) for row, item in rows])


def regularisation_rows(floats, indices):
    del indices
    weight_VV = PAIRS + PAIRS.T + np.eye(V)
    degree_V = weight_VV.sum(1)
    weight_VV = weight_VV / np.sqrt(np.outer(degree_V, degree_V))
    difference_VVD = floats["row_ND"][:, None] - floats["row_ND"]
    return (weight_VV * (difference_VVD**2).sum(-1)).sum(1) / 2


TWO = {"row_ND": (N, D), "item_VD": (V, D)}
RANK = {"rank_N": (N,)}
CASES = {
    "ranking": Case(ranking, ranking_rows, TWO, {"target_N": (N,)}),
    "ranking with sparse logits": Case(
        ranking,
        ranking_rows,
        {**TWO, "value_NK": (N, K)},
        {"target_N": (N,), "class_NK": (N, K)},
    ),
    "distillation": Case(
        functools.partial(distillation, max_bumps=None),
        distillation_rows,
        {**TWO, "tau": ()},
        {"item_N": (N,)},
    ),
    "distillation, bounded": Case(
        functools.partial(distillation, max_bumps=3 * V),
        distillation_rows,
        {**TWO, "tau": ()},
        {"item_N": (N,)},
    ),
    "regularisation": Case(
        lambda floats, indices, **options: regularisation(floats["row_ND"], GRAPH, **options),
        regularisation_rows,
        {"row_ND": (V, D)},
        unread=(4, 5),
    ),
    "hit rate": Case(
        lambda floats, indices, **options: metrics.hit_rate(floats["rank_N"], 5, **options),
        lambda floats, indices: (floats["rank_N"] <= 5) * 1.0,
        RANK,
    ),
    "ndcg": Case(
        lambda floats, indices, **options: metrics.ndcg(floats["rank_N"], 5, **options),
        lambda floats, indices: (floats["rank_N"] <= 5) / np.log2(1 + floats["rank_N"]),
        RANK,
    ),
    "reciprocal rank": Case(
        lambda floats, indices, **options: metrics.reciprocal_rank(floats["rank_N"], **options),
        lambda floats, indices: 1 / floats["rank_N"],
        RANK,
    ),
}

every_case = pytest.mark.parametrize("name", CASES)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


@functools.cache
def program(name, reduction):
    """Value, and gradients by all floats; of the values of rows, weighted by COTANGENT."""
    reduce_fn = REDUCTIONS[reduction][0]

    def total(floats, indices, where):
        result = CASES[name].fn(floats, indices, where=where, reduce_fn=reduce_fn)
        return (result * COTANGENT).sum() if reduce_fn is None else result, result

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def run(name, reduction, floats, indices, where):
    floats = {key: value.astype(np.float32) for key, value in floats.items()}
    indices = {key: value.astype(np.int32) for key, value in indices.items()}
    (_, value), gradients = program(name, reduction)(floats, indices, where)
    return np.asarray(value), {key: np.asarray(leaf) for key, leaf in gradients.items()}


def expected_value(name, reduction, floats, indices):
    rows = CASES[name].rows(floats, indices)
    reduce_fn = REDUCTIONS[reduction][1]
    return np.where(WHERE, rows, 0) if reduce_fn is None else reduce_fn(rows, where=WHERE)


def expected_gradients(name, reduction, floats, indices, step=1e-6):
    """By central differences in float64."""
    gradients = {key: np.zeros(value.shape) for key, value in floats.items()}

    def total(key, index, move):
        moved = {**floats, key: floats[key].copy()}
        moved[key][index] += move
        value = expected_value(name, reduction, moved, indices)
        return (value * COTANGENT).sum() if reduction == "none" else value

    for key, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            high, low = total(key, index, step), total(key, index, -step)
            gradient[index] = (high - low) / (2 * step)
    return gradients


@every_case
@every_reduction
def test_value_and_gradients_agree_with_the_oracle(rng, name, reduction):
    floats, indices = CASES[name].arguments(rng)
    floats = {
        key: np.asarray(value.astype(np.float32), np.float64) for key, value in floats.items()
    }
    value, gradients = run(name, reduction, floats, indices, WHERE)
    expected = expected_value(name, reduction, floats, indices)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for key, right in expected_gradients(name, reduction, floats, indices).items():
        np.testing.assert_allclose(gradients[key], right, rtol=1e-4, atol=1e-5, err_msg=key)


@every_case
@every_reduction
def test_rows_that_do_not_count_may_hold_anything(rng, name, reduction):
    floats, indices = CASES[name].arguments(rng)
    clean_value, clean = run(name, reduction, floats, indices, WHERE)
    unread = list(CASES[name].unread)
    for key, value in floats.items():
        if CASES[name].floats[key][:1] == (N,) and key != "item_VD":
            for row, wrong in zip(unread, (np.nan, np.inf, -np.inf), strict=False):
                value[row] = wrong
    for value in indices.values():
        for row, wrong in zip(unread, (999, -1, V), strict=True):
            value[row] = wrong
    value, gradients = run(name, reduction, floats, indices, WHERE)
    np.testing.assert_array_equal(value, clean_value)
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, clean[key], err_msg=key)
        if key != "item_VD" and gradient.shape[:1] == (N,):
            assert not gradient[unread].any()


@every_case
@every_reduction
def test_where_nothing_counts_all_is_0(rng, name, reduction):
    floats, indices = CASES[name].arguments(rng)
    value, gradients = run(name, reduction, floats, indices, np.zeros(N, bool))
    assert not value.any()
    assert not any(gradient.any() for gradient in gradients.values())


@every_case
def test_without_where_every_row_counts(rng, name):
    floats, indices = CASES[name].arguments(rng)
    floats = {key: jnp.asarray(value, jnp.float32) for key, value in floats.items()}
    indices = {key: jnp.asarray(value, jnp.int32) for key, value in indices.items()}
    values = CASES[name].fn(floats, indices, reduce_fn=None)
    everywhere = CASES[name].fn(floats, indices, where=jnp.ones(N, bool), reduce_fn=None)
    np.testing.assert_array_equal(values, everywhere)
    assert values.shape == (N,)


@every_case
def test_a_reduction_must_reduce_all_axes(rng, name):
    floats, indices = CASES[name].arguments(rng)
    floats = {key: jnp.asarray(value, jnp.float32) for key, value in floats.items()}
    indices = {key: jnp.asarray(value, jnp.int32) for key, value in indices.items()}
    with pytest.raises(ValueError, match="must reduce all axes"):
        CASES[name].fn(floats, indices, reduce_fn=lambda value, where: value)


@pytest.mark.parametrize("where", [WHERE.astype(np.float32), WHERE.astype(int), WHERE[:, None]])
def test_where_is_boolean_and_of_the_shape_of_the_rows(where):
    user, items = jnp.ones((N, D)), jnp.ones((V, D))
    index, rank = jnp.arange(N), jnp.ones(N)
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        for reduce_fn in (mean, None):
            options = {"where": jnp.asarray(where), "reduce_fn": reduce_fn}
            for call in (
                lambda options=options: ranking_loss(user, items, index, **options),
                lambda options=options: distillation_loss(
                    user, items, index, TEACHER, 0.5, **options
                ),
                lambda options=options: metrics.hit_rate(rank, 5, **options),
                lambda options=options: metrics.reciprocal_rank(rank, **options),
                lambda options=options: regularisation(items, GRAPH, **options),
            ):
                with pytest.raises(ValueError, match="^where must "):
                    call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
