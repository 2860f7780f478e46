"""The recommender: it asks for what it needs, and its scores are what its parts give."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, TermConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.item_vectors import item_vectors
from mqsa_jax.models.recommender import (
    Recommender,
    apply,
    init,
    score_term,
    scores,
)
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.models.relations import ItemRelations, item_relations
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.objective import objective

V, D, T = 12, 4, 6
BASE = Config(model=ModelConfig(dim=D, max_len=T), training=TrainingConfig(batch_size=8))
VECTOR_GRAPHS = ("ges", "graphsage", "gat")
"""Models whose item vectors are made of the graph."""
OPTIONS = {"window": 3, "alpha": 0.5}


def histories():
    rng = np.random.default_rng(0)
    return make_histories(range(8), [np.arange(V), *rng.integers(0, V, (7, 8))])


def config_of(name, **flags):
    return with_model(BASE, name, **flags)


def model_of(name, **flags):
    """A model with random parameters large enough to tell items apart, and its relations."""
    config = config_of(name, **flags)
    recommender = Recommender.of(config, V)
    shapes = jax.eval_shape(lambda: init(recommender, jax.random.key(0)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), shapes)
    return recommender, params, item_relations(histories(), config)


def inputs():
    """Two histories, one a row."""
    return jax.tree.map(jnp.asarray, Sequences.of([[3, 1, 4], [1, 5, 9, 2, 6]], T))


LAST = jnp.array([T - 1, 2 * T - 1], jnp.int32)

# What is missing is asked for


@pytest.mark.parametrize("name", VECTOR_GRAPHS)
@pytest.mark.parametrize("given", [None, ItemRelations()], ids=["no relations", "no graph in them"])
def test_a_model_of_graph_vectors_needs_its_graph(name, given):
    recommender, params, _ = model_of(name)
    expected = pytest.raises(ValueError, match=f"graph='{recommender.graph}' needs .* `graph`")
    with expected:
        item_vectors(recommender, params, given)
    with expected:
        apply(recommender, params, inputs(), **OPTIONS, relations=given)
    with expected:
        scores(recommender, params, inputs(), LAST, **OPTIONS, relations=given)


@pytest.mark.parametrize("given", [None, ItemRelations()], ids=["no relations", "no neighbours"])
def test_a_term_needs_its_neighbours(given):
    recommender, params, _ = model_of("mqsa-ted-plus")
    expected = pytest.raises(ValueError, match="num_recent=4 needs .* `neighbours`")
    with expected:
        score_term(recommender, params, inputs(), given)
    with expected:
        scores(recommender, params, inputs(), LAST, **OPTIONS, relations=given)


def test_parameters_of_a_part_are_asked_for():
    for name, part in (("gat", "graph"), ("graphsage", "graph"), ("mqsa-ted-plus", "transition")):
        recommender, params, relations = model_of(name)
        params = {key: leaf for key, leaf in params.items() if not key.startswith(part)}
        with pytest.raises(ValueError, match=f"needs parameters '{part}"):
            scores(recommender, params, inputs(), LAST, **OPTIONS, relations=relations)


@pytest.mark.parametrize(
    ("name", "flags", "missing"),
    [
        *((name, {}, "graph") for name in (*VECTOR_GRAPHS, "grareg")),
        ("mqsa-ted-plus", {"term_dropout": 0.5}, "neighbours"),
    ],
)
def test_the_objective_needs_what_the_model_trains_with(name, flags, missing):
    config = config_of(name, **flags)
    experiment = Experiment(config, histories(), DeviceLayout.of(1))
    source = experiment.batch_source()
    (batches,) = source.batches(0, 1, source.capacity())
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batches)
    recommender, params, _ = model_of(name, **flags)
    hparams = HParams.of(config)
    for given in (None, ItemRelations()):
        with pytest.raises(ValueError, match=f"needs .* `{missing}`"):
            objective(
                params,
                batch,
                jax.random.key(0),
                recommender=recommender,
                hparams=hparams,
                relations=given,
            )


@pytest.mark.parametrize("shape", [(V + 1, D), (V, D + 1)])
def test_item_vectors_of_another_shape_are_refused(shape):
    recommender, params, _ = model_of("mqsa")
    with pytest.raises(ValueError, match=r"expected \[V, D\] = \(12, 4\)"):
        apply(recommender, params, inputs(), **OPTIONS, item_VD=jnp.zeros(shape))


@pytest.mark.parametrize("name", ["mqsa-ted", "grareg", "gru4rec", "fmlp"])
def test_a_model_that_needs_nothing_more_asks_for_nothing(name):
    recommender, params, _ = model_of(name)
    user_BTD = apply(recommender, params, inputs(), **OPTIONS)
    score_BV = scores(recommender, params, inputs(), LAST, **OPTIONS)
    expected = np.asarray(user_BTD[:, -1], float) @ np.asarray(params["item_embedding"], float).T
    np.testing.assert_allclose(score_BV, expected, rtol=1e-4, atol=1e-4)
    assert score_term(recommender, params, inputs(), None) is None


# What is given is used


@pytest.mark.parametrize("name", VECTOR_GRAPHS)
def test_graph_vectors_are_input_and_output(name):
    recommender, params, relations = model_of(name)
    item_VD = item_vectors(recommender, params, relations)
    user_BTD = apply(recommender, params, inputs(), **OPTIONS, relations=relations)
    plain, _, _ = model_of("mqsa")
    same_BTD = apply(plain, {**params, "item_embedding": item_VD}, inputs(), **OPTIONS)
    np.testing.assert_allclose(user_BTD, same_BTD, rtol=1e-5, atol=1e-5)
    score_BV = scores(recommender, params, inputs(), LAST, **OPTIONS, relations=relations)
    expected_BV = np.asarray(user_BTD[:, -1], float) @ np.asarray(item_VD, float).T
    np.testing.assert_allclose(score_BV, expected_BV, rtol=1e-4, atol=1e-4)
    without_BV = expected_BV - user_BTD[:, -1] @ params["item_embedding"].T
    assert np.abs(without_BV).max() > 0.1


def test_scores_are_inner_products_and_the_term():
    recommender, params, relations = model_of("mqsa-ted-plus")
    plain, _, _ = model_of("mqsa-ted")
    with_term = scores(recommender, params, inputs(), LAST, **OPTIONS, relations=relations)
    without = scores(plain, params, inputs(), LAST, **OPTIONS)
    everywhere = score_term(recommender, params, inputs(), relations)
    for row in range(2):
        expected_V = np.zeros(V)
        np.add.at(expected_V, everywhere.item[row, -1], everywhere.value[row, -1])
        assert np.abs(expected_V).max() > 0.1
        np.testing.assert_allclose(with_term[row] - without[row], expected_V, atol=1e-4)


def test_scores_do_not_depend_on_packing():
    """Two histories side by side in one row, and a shard axis before it."""
    recommender, params, relations = model_of("mqsa-ted-plus")
    alone_BV = scores(recommender, params, inputs(), LAST, **OPTIONS, relations=relations)
    two = inputs()
    row = jax.tree.map(lambda leaf: jnp.concatenate([leaf[0, 3:], leaf[1, 1:]])[None, None], two)
    row = row.replace(segment_ids=jnp.array([[[0, 0, 0, 1, 1, 1, 1, 1]]], jnp.int32))
    last = jnp.array([[2, 7]], jnp.int32)
    packed = scores(recommender, params, row, last, **OPTIONS, relations=relations)
    np.testing.assert_allclose(packed[0], alone_BV, rtol=1e-4, atol=1e-4)


# Initial parameters


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if not spec.counted])
def test_parts_outside_the_sequence_leave_other_draws_as_they_are(name):
    recommender = Recommender.of(config_of(name), V)
    plain = Recommender(
        V, D, T, recommender.num_blocks, recommender.num_heads, backbone=recommender.backbone
    )
    params, expected = (init(model, jax.random.key(5)) for model in (recommender, plain))
    own = {key: params[key] for key in params if key not in ("graph", "transition_term")}
    chex.assert_trees_all_equal(own, expected)
    assert ("graph" in params) == (recommender.graph in ("graphsage", "gat"))
    assert ("transition_term" in params) == (name == "mqsa-ted-plus")


def test_the_term_starts_at_the_weights_given():
    recommender = Recommender(V, D, T, num_recent=3)
    given = init(recommender, jax.random.key(0), term_weight=4.0, term_decay=0.5)
    weights = np.exp(given["transition_term"]["log_weight"])
    np.testing.assert_allclose(weights, [4, 2, 1], rtol=1e-6)
    default = np.exp(init(recommender, jax.random.key(0))["transition_term"]["log_weight"])
    term = TermConfig()
    np.testing.assert_allclose(default, term.term_weight * term.term_decay ** np.arange(3))


# Sequences


def test_sequences_of_lists_are_aligned_right_and_cut_left():
    rows = Sequences.of([[], [7, 8], [1, 2, 3, 4, 5]], 3)
    assert rows.item.tolist() == [[0, 0, 0], [0, 7, 8], [3, 4, 5]]
    assert rows.segment_ids.tolist() == [[-1, -1, -1], [-1, 1, 1], [2, 2, 2]]
    assert rows.position.tolist() == [[0, 1, 2]] * 3
    assert all(leaf.dtype == np.int32 for leaf in jax.tree.leaves(rows))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([1.7, 2.2], "item indices must be integers, got float64"),
        ([True, False], "item indices must be integers, got bool"),
        ([2**33 + 5], "item indices must be 0 to V - 1"),
        ([3, -1], "item indices must be 0 to V - 1, got -1 to 3"),
        (5, "a history must be a sequence of item indices, got 5"),
        ([[1, 2]], "a history must be a sequence of item indices"),
    ],
)
def test_sequences_of_other_things_than_indices_are_refused(history, message):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            Sequences.of([[1], history], T)
        with pytest.raises(ValueError, match="max_len must be at least 1, got 0"):
            Sequences.of([[1]], 0)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", ["mqsa-ted", "gru4rec", "mqsa-ted-plus"])
def test_indices_out_of_range_make_their_row_nan(name):
    recommender, params, relations = model_of(name)
    sequences = inputs()
    run = jax.jit(
        lambda sequences: scores(recommender, params, sequences, relations=relations, **OPTIONS)
    )
    whole = run(sequences)
    assert np.isfinite(whole).all() and whole.shape == (2, V)
    for field, value in [("item", V), ("item", -1), ("position", T), ("position", -1)]:
        changed = getattr(sequences, field).at[0, -2].set(value)
        broken = run(sequences.replace(**{field: changed}))
        assert np.isnan(broken[0]).all(), (field, value)
        np.testing.assert_array_equal(broken[1], whole[1])
    # Padding may hold anything.
    padding = sequences.replace(item=jnp.where(sequences.segment_ids < 0, 10**6, sequences.item))
    np.testing.assert_array_equal(run(padding), whole)


def test_histories_cut_to_another_length_than_the_model_reads_are_noticed():
    recommender, params, _ = model_of("mqsa-ted")
    with pytest.raises(ValueError, match=f"rows have {T - 1} positions, .* max_len is {T}"):
        apply(recommender, params, Sequences.of([[1, 2]], T - 1), **OPTIONS)
    # Longer rows may be packed ones, so that only their positions can tell.
    assert np.isnan(apply(recommender, params, Sequences.of([[1, 2]], T + 1), **OPTIONS)).all()


@pytest.mark.parametrize("last", [-1, 2 * T, 0])
def test_scores_at_no_history_are_nan(last):
    """Before the first row, behind the last, and at padding."""
    recommender, params, _ = model_of("mqsa-ted")
    found = scores(recommender, params, inputs(), jnp.array([T - 1, last]), **OPTIONS)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    by_default = scores(recommender, params, inputs(), **OPTIONS)
    np.testing.assert_allclose(by_default[0], found[0], rtol=1e-6)
