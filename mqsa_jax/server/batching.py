"""Requests that wait together are answered together, by one thread."""

import asyncio
import contextlib
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from mqsa_jax.inference.batch_shapes import MAX_BATCH
from mqsa_jax.server.answers import Answer, Answers
from mqsa_jax.server.metrics import Metrics
from mqsa_jax.server.requests import RefusedError, Request

BATCH_SECONDS = 0.005
"""Between the beginnings of two batches of several requests, at least."""


class _Waiting(NamedTuple):
    request: Request
    future: asyncio.Future


class Batcher:
    """Answers requests of one event loop.

    The thread takes whatever waits, at most `MAX_BATCH` requests. A request that waits alone is
    answered at once, and so is a full batch; others begin `BATCH_SECONDS` apart at least, so that
    their fixed cost does not fill the processor. The answers of a batch come from one model.
    """

    def __init__(self, answers: Callable[[], Answers], max_waiting: int, metrics: Metrics):
        """Takes what gives the current model's answers, and how many requests may wait."""
        self._answers, self._max_waiting, self._metrics = answers, max_waiting, metrics
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread once all that waits is answered."""
        self._queue.put(None)
        self._thread.join()

    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return self._queue.qsize()

    async def answer(self, request: Request) -> bytes:
        """The JSON of the answer; raises RefusedError if there is none."""
        if self._queue.qsize() >= self._max_waiting:
            self._metrics.turned_away.inc()
            raise RefusedError(503, f"{self._max_waiting} requests wait already; try again later")
        future = asyncio.get_running_loop().create_future()
        self._queue.put(_Waiting(request, future))
        return await future

    def _work(self) -> None:
        next_begin = 0.0
        while (first := self._queue.get()) is not None:
            if 0 < self._queue.qsize() < MAX_BATCH - 1:
                time.sleep(max(next_begin - time.monotonic(), 0))
            next_begin = time.monotonic() + BATCH_SECONDS
            batch = [first]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                waiting = self._queue.get()
                if waiting is None:
                    self._queue.put(None)
                    break
                batch.append(waiting)
            self._answer([waiting for waiting in batch if not waiting.future.cancelled()])

    def _answer(self, batch: list[_Waiting]) -> None:
        """Answers the requests of a batch, one kind after the other."""
        answers = self._answers()
        groups: dict[Callable, list[_Waiting]] = {}
        for waiting in batch:
            groups.setdefault(answers.method(waiting.request), []).append(waiting)
        # Reasons take longest.
        for method in sorted(groups, key=lambda method: method == answers.explained):
            group = groups[method]
            self._metrics.batch.observe(len(group))
            try:
                results = method([waiting.request for waiting in group])
            except Exception as error:
                # The other requests must not be lost because of these.
                traceback.print_exc()
                reason = f"{type(error).__name__}: {error}; the server's log has more"
                results = [RefusedError(500, reason)] * len(group)
            loop = group[0].future.get_loop()
            # After an end that was forced, nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, [waiting.future for waiting in group], results)


def _deliver(futures: list[asyncio.Future], results: list[Answer]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, RefusedError):
            future.set_exception(result)
        else:
            future.set_result(result)
