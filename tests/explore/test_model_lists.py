"""The lists by each part of a model are those of its scores; reasons add up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import mqsa_jax
from mqsa_jax.config import Config
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.explore.list_program import part_lists
from mqsa_jax.explore.model_lists import Asked, ModelLists
from mqsa_jax.explore.transitions import Transitions
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init, scores
from mqsa_jax.models.registry import with_model
from mqsa_jax.models.transition_term import with_term_factor

HISTORY = [3, 11, 7, 20, 4]
ASKED = Asked(HISTORY, alpha=0.3, window=2, term_factor=2.0, exclude_seen="history", item=9)


@pytest.fixture(scope="module")
def plus(run):
    return ModelLists(run, 10)


def ordered(score_V, left_out, k):
    """The best items, by NumPy."""
    score_V = np.array(score_V, np.float64)
    score_V[list(left_out)] = -np.inf
    return np.argsort(-score_V, kind="stable")[:k].tolist()


def scores_by(run, *, alpha, window, factor, history=HISTORY):
    params = with_term_factor(run.params, factor)
    sequences = jax.tree.map(jnp.asarray, Sequences.of([history], run.recommender.max_len))
    found = scores(
        run.recommender, params, sequences, window=window, alpha=alpha, relations=run.relations
    )
    return np.asarray(found)[0]


def items(answer, part):
    return [entry["item"] for entry in answer["lists"][part]]


def test_by_the_settings_of_the_run_the_list_is_that_of_recommend(plus):
    run = plus.run
    settings = dict(alpha=float(run.hparams.alpha), window=int(run.hparams.window))
    answer = plus.answer(dataclasses.replace(ASKED, **settings, term_factor=1.0))
    (expected,) = run.recommend([run.item_ids[HISTORY]], k=10)
    found = [(int(run.item_ids[e["item"]]), e["score"]) for e in answer["lists"]["model"]]
    assert [item for item, _ in found] == [item for item, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-5)


@pytest.mark.parametrize(
    "part, settings",
    [
        ("model", dict(alpha=0.3, window=2, factor=2.0)),
        ("mixed", dict(alpha=0.3, window=2, factor=0.0)),
        ("short", dict(alpha=1.0, window=2, factor=0.0)),
        ("long", dict(alpha=0.0, window=2, factor=0.0)),
    ],
)
def test_each_part_lists_by_its_own_scores(plus, part, settings):
    answer = plus.answer(ASKED)
    assert items(answer, part) == ordered(scores_by(plus.run, **settings), HISTORY, 10)


def test_the_parts_of_an_item_add_up(plus):
    parts = plus.answer(ASKED)["reasons"]["parts"]
    value = {name: part["score"] for name, part in parts.items()}
    term = value["term"] or 0.0
    assert value["mixed"] == pytest.approx(0.3 * value["short"] + 0.7 * value["long"], abs=1e-5)
    assert value["model"] == pytest.approx(value["mixed"] + term, abs=1e-5)


def test_the_term_is_twice_as_much_at_twice_the_weight_and_comes_from_recent_items(plus):
    answer = plus.answer(dataclasses.replace(ASKED, term_factor=1.0))
    best = answer["lists"]["term"][0]["item"]
    once = plus.answer(dataclasses.replace(ASKED, term_factor=1.0, item=best))["reasons"]
    twice = plus.answer(dataclasses.replace(ASKED, item=best))["reasons"]
    assert twice["parts"]["term"]["score"] == pytest.approx(2 * once["parts"]["term"]["score"])
    assert sum(e["score"] for e in once["term"]) == pytest.approx(once["parts"]["term"]["score"])
    newest = HISTORY[::-1][: plus.run.recommender.num_recent]
    assert {entry["item"] for entry in once["term"]} <= set(newest)
    assert plus.answer(dataclasses.replace(ASKED, term_factor=0.0))["lists"]["term"] == []


def test_ranks_are_places_in_the_lists_and_none_where_left_out(plus):
    answer = plus.answer(ASKED)
    for part in plus.parts:
        for place, item in enumerate(items(answer, part)[:3], start=1):
            found = plus.answer(dataclasses.replace(ASKED, item=item))["reasons"]
            assert found["parts"][part]["rank"] == place
    left_out = plus.answer(dataclasses.replace(ASKED, item=HISTORY[0]))["reasons"]["parts"]
    assert {part["rank"] for part in left_out.values()} == {None}


def test_policies_leave_out_what_they_say(plus):
    # Of a history longer than the 8 items that the model reads, the oldest may come again.
    long = [0, *range(12, 20)]
    for policy, left_out in (("history", long), ("window", long[1:]), ("none", [])):
        asked = dataclasses.replace(ASKED, history=long, exclude_seen=policy, item=0)
        answer = plus.answer(asked)
        assert not set(items(answer, "model")) & set(left_out)
        rank = answer["reasons"]["parts"]["model"]["rank"]
        assert (rank is None) == (0 in left_out), policy


def test_attention_is_that_of_the_run_and_sums_to_1(plus):
    window = int(plus.run.hparams.window)
    found = plus.answer(dataclasses.replace(ASKED, window=window))["attention"]
    expected = plus.run.attention([np.array(HISTORY, np.int32)])
    for branch in ("short", "long"):
        np.testing.assert_allclose(found[branch], expected[branch][0, -5:], atol=1e-5)
        assert sum(found[branch]) == pytest.approx(1, abs=1e-4)


def test_moved_settings_compile_nothing(plus):
    plus.answer(ASKED)
    before = part_lists._cache_size()
    for alpha, window, factor, item in ((0.0, 1, 0.0, None), (1.0, 8, 4.0, 3), (0.5, 3, 1.0, 29)):
        plus.answer(Asked(HISTORY[:3], alpha, window, factor, "none", item))
    assert part_lists._cache_size() == before


def test_the_teacher_lists_what_followed_the_newest_item(plus):
    counts = plus.run.counts.transitions
    newest = HISTORY[-1]
    teacher = transition_teacher(
        mqsa_jax.TransitionCounts.from_scipy(counts), float(plus.run.hparams.tau)
    )
    (expected_V,) = np.asarray(teacher_probabilities(teacher, jnp.array([newest])))
    probability_V = Transitions(counts, float(plus.run.hparams.tau)).probabilities(newest)
    np.testing.assert_allclose(probability_V, expected_V, rtol=1e-5)
    followed = [i for i in np.flatnonzero(counts[[newest]].toarray()[0]) if i not in HISTORY]
    found = plus.answer(ASKED)["lists"]["teacher"]
    assert sorted(entry["item"] for entry in found) == sorted(followed)[:10]
    assert found == sorted(found, key=lambda entry: -entry["score"])


def test_transitions_into_an_item_are_counts_and_their_shares():
    counts = np.zeros((5, 5))
    counts[0, 4], counts[0, 1], counts[2, 4], counts[3, 1] = 3, 1, 1, 7
    found = Transitions(scipy.sparse.csr_array(counts), 0.1).into(4, np.array([0, 2, 3, 2]))
    assert found == [
        {"item": 2, "count": 1.0, "share": 1.0},
        {"item": 0, "count": 3.0, "share": 0.75},
    ]


def untrained(run, model):
    """A run of another model on the same data, with the parameters that training begins with."""
    config = with_model(run.config, model)
    recommender = Recommender.of(config, run.num_items)
    params = init(recommender, jax.random.key(0))
    changes = dict(config=config, recommender=recommender, params=params, relations=None)
    return dataclasses.replace(run, **changes, hparams=HParams.of(config))


@pytest.mark.parametrize(
    "model, parts, branches, has",
    [
        ("mqsa", ["model", "short", "long"], ("short", "long"), {"alpha", "window"}),
        ("sasrec", ["model"], ("short",), set()),
        ("l-query", ["model"], ("long",), {"window"}),
        ("gru4rec", ["model"], (), set()),
    ],
)
def test_a_model_shows_the_parts_and_settings_that_it_has(plus, model, parts, branches, has):
    flags = dict(term_items=0, term_weight=1.0, ema_decay=0.0)
    base = dataclasses.replace(plus.run, config=Config.from_flat(plus.run.config.flat() | flags))
    lists = ModelLists(untrained(base, model), 5)
    assert [column["key"] for column in lists.columns()] == [*parts, "teacher"]
    assert lists.branches == branches
    settings = {"alpha", "window", "term_weight"}
    assert {name for name in settings if lists.defaults()[name] is not None} == has
    alpha = float(lists.run.hparams.alpha)
    answer = lists.answer(Asked(HISTORY, alpha, 3, 1.0, "history", 9))
    assert set(answer["attention"]) == set(branches)
    (expected,) = lists.run.recommend([lists.run.item_ids[HISTORY]], k=5)
    assert lists.run.item_ids[items(answer, "model")].tolist() == [item for item, _ in expected]
