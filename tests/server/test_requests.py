"""What a request may hold, whatever the model."""

import pytest

pytest.importorskip("pydantic")

from pydantic import ValidationError

from mqsa_jax.server.requests import (
    Limits,
    RecommendRequest,
    RefusedError,
    ScoreRequest,
    SimilarRequest,
)


def test_a_history_with_times_is_sorted_and_equal_times_keep_their_order():
    entries = [(30, 5), (10, 2.5), (20, 5), (40, -1)]
    timed = [{"item": item, "time": time} for item, time in entries]
    request = RecommendRequest(history=timed)
    assert request.history == [40, 10, 30, 20]
    assert RecommendRequest(history=[3, 1, 2]).history == [3, 1, 2]


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (RecommendRequest, '{"history":[1,true]}', "entry 1 is True, no id"),
        (RecommendRequest, '{"history":[1.0]}', "entry 0 is 1.0, no id"),
        (RecommendRequest, '{"history":[{"item":1,"time":2},3]}', "entry 1 is not like"),
        (RecommendRequest, '{"history":[3,{"item":1,"time":2}]}', "entry 1 is dict, no id"),
        (RecommendRequest, '{"history":[{"item":1,"time":"2"}]}', "time of entry 0 is '2'"),
        (RecommendRequest, '{"history":[{"item":1,"time":1e999}]}', "time of entry 0 is inf"),
        (RecommendRequest, '{"history":[{"item":[],"time":1}]}', "list is no id"),
        (RecommendRequest, '{"history":[1],"k":0}', "greater than or equal to 1"),
        (RecommendRequest, '{"history":[1],"k":"5"}', "valid integer"),
        (RecommendRequest, '{"history":[1],"explain":1}', "valid boolean"),
        (RecommendRequest, '{"history":[1],"exclude_seen":"all"}', "'history', 'window' or"),
        (RecommendRequest, '{"history":[1],"alow":[2]}', "Extra inputs"),
        (RecommendRequest, '{"history":[1]', "EOF"),
        (RecommendRequest, '{"history":' * 5_000, "recursion"),
        (ScoreRequest, '{"history":[1],"items":[]}', "at least 1 item"),
        (ScoreRequest, '{"history":[1]}', "Field required"),
        (SimilarRequest, '{"item":null}', "NoneType is no id"),
    ],
)
def test_what_is_wrong_is_said(kind, body, reason):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate_json(body)
    assert reason in refused.value.errors()[0]["msg"]


def test_limits_are_the_largest_that_is_taken():
    limits = Limits(max_history=3, max_k=5, max_body=100)
    limits.check(RecommendRequest(history=[1, 2, 3], k=5))
    limits.check(SimilarRequest(item=1, k=5))
    with pytest.raises(RefusedError, match="history: 4 entries, and the limit is 3"):
        limits.check(ScoreRequest(history=[1, 2, 3, 4], items=[1]))
    with pytest.raises(RefusedError, match="k: 6, and the limit is 5"):
        limits.check(SimilarRequest(item=1, k=6))
