"""Requests that wait together are answered together, and errors stay with their own."""

import asyncio

import pytest

pytest.importorskip("fastapi")

from mqsa_jax.server import batching
from mqsa_jax.server.batching import BATCH_SECONDS, Batcher
from mqsa_jax.server.metrics import Metrics
from mqsa_jax.server.requests import RecommendRequest, RefusedError, ScoreRequest


class Recorder:
    """Answers with the size of the batch, and fails at scores."""

    def __init__(self):
        self.batches = []

    def method(self, request):
        if isinstance(request, ScoreRequest):
            return self.score
        return self.explained if request.explain else self.recommend

    def recommend(self, requests):
        self.batches.append(("recommend", len(requests)))
        return [
            RefusedError(422, "odd") if request.k == 3 else str(request.k).encode()
            for request in requests
        ]

    def explained(self, requests):
        self.batches.append(("explained", len(requests)))
        return [b"why"] * len(requests)

    def score(self, requests):
        raise ZeroDivisionError("by design")


async def gathered(batcher, requests):
    """The answers to requests that all wait before the thread starts."""
    tasks = [asyncio.ensure_future(batcher.answer(request)) for request in requests]
    await asyncio.sleep(0)
    batcher.start()
    try:
        return await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        batcher.stop()


def test_each_kind_is_one_batch_and_reasons_come_last():
    recorder, metrics = Recorder(), Metrics()
    requests = [RecommendRequest(history=[], k=k, explain=k == 2) for k in range(1, 41)]
    batcher = Batcher(lambda: recorder, 1000, metrics)
    results = asyncio.run(gathered(batcher, requests))
    # 32 at most, in the order of their arrival.
    assert recorder.batches == [("recommend", 31), ("explained", 1), ("recommend", 8)]
    assert results[:2] == [b"1", b"why"] and results[39] == b"40"
    assert isinstance(results[2], RefusedError) and results[2].status == 422
    assert b"mqsa_batch_requests_sum 40.0" in metrics.text()


@pytest.mark.parametrize(
    ("number", "waits"),
    [(1, 0), (32, 0), (33, 0), (34, 1), (63, 1), (64, 0)],
)
def test_a_small_batch_behind_another_waits_for_company(monkeypatch, number, waits):
    """A request alone does not, nor a full batch."""
    slept = []
    monkeypatch.setattr(batching.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(batching.time, "sleep", slept.append)
    requests = [RecommendRequest(history=[], k=1)] * number
    batcher = Batcher(Recorder, 1000, Metrics())
    assert len(asyncio.run(gathered(batcher, requests))) == number
    assert [seconds for seconds in slept if seconds > 0] == pytest.approx([BATCH_SECONDS] * waits)


def test_an_error_reaches_the_requests_that_made_it(capsys):
    requests = [ScoreRequest(history=[1], items=[1]), RecommendRequest(history=[], k=7)]
    batcher = Batcher(Recorder, 1000, Metrics())
    failed, answered = asyncio.run(gathered(batcher, requests))
    assert failed.status == 500 and "ZeroDivisionError: by design" in failed.reason
    assert answered == b"7"
    assert "Traceback" in capsys.readouterr().err


def test_more_than_may_wait_are_turned_away():
    metrics = Metrics()
    batcher = Batcher(Recorder, 2, metrics)
    requests = [RecommendRequest(history=[], k=k) for k in (5, 6, 7)]
    *answered, refused = asyncio.run(gathered(batcher, requests))
    assert answered == [b"5", b"6"]
    assert refused.status == 503 and "2 requests wait already" in refused.reason
    assert b"mqsa_turned_away_total 1.0" in metrics.text()
