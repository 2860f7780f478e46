"""Answers are what the Python interface gives, whatever requests share a batch."""

import json

import numpy as np
import pytest

import mqsa_jax
from mqsa_jax.inference.batch_shapes import MAX_BATCH
from mqsa_jax.inference.stored_model import COUNTS
from mqsa_jax.server import engine
from mqsa_jax.server.answers import Answers
from mqsa_jax.server.engine import Engine
from mqsa_jax.server.requests import RecommendRequest, ScoreRequest, SimilarRequest
from tests.inference.test_string_ids import ROWS, name
from tests.server.conftest import make_run, number

NUMBERS = [[number(item) for item in row] for row in ROWS]


def pairs(answer: bytes) -> list[tuple]:
    return [(each["item"], each["score"]) for each in json.loads(answer)["items"]]


def same(answer: bytes, expected: list[tuple]):
    got = pairs(answer)
    assert [item for item, _ in got] == [item for item, _ in expected]
    for (_, score), (_, other) in zip(got, expected, strict=True):
        assert score == (None if other is None else pytest.approx(other, abs=1e-6))


@pytest.mark.parametrize("model", ["mqsa-ted-plus", "transition"])
def test_lists_are_those_of_recommend(served, model):
    """32 requests of all kinds in one batch, each with options of its own."""
    options = [
        {"k": 3},
        {"k": 20},
        {"k": 4, "allow": [number(item) for item in (1, 3, 5, 7)]},
        {"k": 5, "deny": [number(0), number(1)], "exclude_seen": "none"},
        {"k": 1, "exclude_seen": "window"},
        {"k": 2, "allow": [], "deny": [number(2)]},
        {"k": 6, "allow": [number(4), number(5), 999]},
    ]
    requests = [
        {"history": NUMBERS[index % 9][: 1 + index % 7], **options[index % 7]}
        for index in range(32)
    ]
    run = served(model).engine.model
    made = served(model).recommend([RecommendRequest(**each) for each in requests])
    for request, answer in zip(requests, made, strict=True):
        history = request.pop("history")
        (expected,) = run.recommend([history], unknown="skip", **request)
        same(answer, expected)


def test_unknown_items_are_skipped_and_counted(served):
    plus = served("mqsa-ted-plus")
    run = plus.engine.model
    histories = [[-3, number(4), 2**70, 8], [], [1, 2, 3]]
    made = plus.recommend([RecommendRequest(history=each, k=4) for each in histories])
    assert [json.loads(answer)["unknown"] for answer in made] == [3, 0, 3]
    same(made[0], run.recommend([[number(4)]], 4)[0])
    counts = np.unique(np.concatenate([row[:-2] for row in ROWS]), return_counts=True)
    popular = sorted(zip(*map(list, counts), strict=True), key=lambda pair: (-pair[1], pair[0]))
    for answer in made[1:]:
        same(answer, [(number(int(item)), None) for item, _ in popular[:4]])
    (limited,) = plus.recommend([RecommendRequest(history=[], k=2, allow=[number(3)])])
    same(limited, [(number(3), None)])


def test_no_size_of_a_batch_is_compiled_after_the_start(served):
    answers = served("mqsa-ted")
    compiled = [each._cache_size() for each in (engine._cosines, engine._best)]
    for size in range(1, MAX_BATCH + 1):
        similar = [SimilarRequest(item=NUMBERS[0][0], k=3)] * size
        assert len(answers.similar(similar)) == size
    assert [each._cache_size() for each in (engine._cosines, engine._best)] == compiled


def test_reasons_are_those_of_recommend(served):
    plus = served("mqsa-ted-plus")
    requests = [RecommendRequest(history=row, k=3, explain=True) for row in NUMBERS]
    requests[4] = RecommendRequest(history=[], k=2, explain=True)
    made = [json.loads(answer)["items"] for answer in plus.explained(requests)]
    assert made[4][0]["transitions"] == made[4][0]["short_attention"] == []
    assert len(made[4]) == 2
    expected = plus.engine.model.recommend(NUMBERS, 3, explain=True)
    for user in (0, 3, 5, 8):
        for got, wanted in zip(made[user], expected[user], strict=True):
            assert got["item"] == wanted.item
            for branch in ("short_attention", "long_attention"):
                assert [each["item"] for each in got[branch]] == [
                    item for item, _ in getattr(wanted, branch)
                ]
                assert [each["weight"] for each in got[branch]] == pytest.approx(
                    [weight for _, weight in getattr(wanted, branch)], abs=1e-5
                )
            assert got["transitions"] == [
                {
                    "item": each.item,
                    "count": each.count,
                    "probability": pytest.approx(each.probability),
                }
                for each in wanted.transitions
            ]


@pytest.mark.parametrize("model", ["mqsa-ted-plus", "transition"])
def test_scores_are_those_of_score(served, model):
    run = served(model).engine.model
    items = [number(11), number(0), number(11)]
    requests = [ScoreRequest(history=[5, *row], items=items) for row in NUMBERS]
    for row, answer in zip(NUMBERS, served(model).score(requests), strict=True):
        same(answer, list(zip(items, run.score([row], items)[0].tolist(), strict=True)))


def test_similar_items_are_those_of_similar(served):
    plus = served("mqsa-ted-plus")
    items = [number(2), number(7)]
    made = plus.similar([SimilarRequest(item=item, k=4) for item in items])
    for item, answer in zip(items, made, strict=True):
        same(answer, plus.engine.model.similar(item, 4))
    request = SimilarRequest(item=number(2), k=3, allow=[number(5), number(2)])
    assert [item for item, _ in pairs(plus.similar([request])[0])] == [number(5)]
    (refused,) = served("transition").similar([SimilarRequest(item=number(2))])
    assert refused.status == 422 and "no item vectors" in refused.reason


def test_an_item_has_its_counts_and_followers(served):
    plus = served("mqsa-ted-plus")
    found = json.loads(plus.item(str(number(3))))
    counts = plus.engine.model.counts
    assert found["training_count"] == counts.items[3]
    row = counts.transitions.toarray()[3]
    assert {each["item"]: each["count"] for each in found["followers"]} == {
        number(item): row[item] for item in np.flatnonzero(row)
    }


def test_ids_are_of_the_kind_of_the_data(served):
    strings = served("strings")
    request = RecommendRequest(history=[name(4), "no item", "half \ud800"], k=3)
    (answer,) = strings.recommend([request])
    same(answer, strings.engine.model.recommend([[name(4)]], 3)[0])
    assert json.loads(answer)["unknown"] == 2
    assert json.loads(strings.item(name(4)))["item"] == name(4)
    for one, id_, wanted in (
        (strings, 17, "strings"),
        (served("transition"), "17", "integers"),
    ):
        (refused,) = one.recommend([RecommendRequest(history=[id_])])
        assert refused.status == 422
        assert refused.reason == (
            f"history: entry 0 is {id_!r}; the item ids of this model are {wanted}"
        )
        known = [name(1)] if one is strings else [number(1)]
        (refused,) = one.recommend([RecommendRequest(history=known, deny=[id_])])
        assert refused.reason.startswith("deny: entry 0")


def test_a_refused_request_leaves_the_others_of_its_batch(served):
    plus = served("mqsa-ted-plus")
    good = {"history": NUMBERS[0], "items": [number(1)]}
    requests = [good, good | {"history": [5]}, good | {"items": [number(1), 6]}, good]
    made = plus.score([ScoreRequest(**request) for request in requests])
    assert made[0] == made[3] and isinstance(made[0], bytes)
    assert [made[1].reason, made[2].reason] == [
        "history: holds no item that the model knows",
        "items: 6 is not among the items of the model",
    ]


def test_without_counts_lists_are_made_and_reasons_are_not(tmp_path):
    make_run("mqsa-ted", tmp_path / "run")
    (tmp_path / "run" / COUNTS).unlink()
    engine = Engine(mqsa_jax.load_model(tmp_path / "run"), 20)
    engine.warm_up()
    alone = Answers(engine, 1)
    plain = RecommendRequest(history=NUMBERS[0], k=3)
    same(alone.recommend([plain])[0], engine.model.recommend([NUMBERS[0]], 3)[0])
    (explained,) = alone.explained([RecommendRequest(history=NUMBERS[0], explain=True)])
    (popular,) = alone.recommend([RecommendRequest(history=[])])
    for refused in (explained, popular):
        assert refused.status == 422 and COUNTS in refused.reason
    assert json.loads(alone.item(str(number(3)))) == {"model": 1, "item": number(3)}
