"""What the server counts for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mqsa_jax.inference.batch_shapes import SHAPES

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds of the histogram of latencies."""
OTHER = "other"
"""Stands for every path that the server does not have: the labels must stay few."""


class Metrics:
    """The server's own registry, so that two servers of a process do not share one."""

    def __init__(self):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        own = {"registry": self._registry}
        labels = ("path", "status")
        self.requests = Counter("mqsa_requests", "Requests answered.", labels, **own)
        self.latency = Histogram(
            "mqsa_request_seconds",
            "From the head of a request to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            **own,
        )
        sizes = sorted({shape.histories for shape in SHAPES})
        self.batch = Histogram(
            "mqsa_batch_requests", "Requests scored together.", buckets=sizes, **own
        )
        self.turned_away = Counter(
            "mqsa_turned_away", "Requests refused since too many were waiting.", **own
        )
        self.swaps = Counter("mqsa_model_swaps", "Models swapped in.", **own)
        self.failures = Counter(
            "mqsa_model_load_failures", "Changed models that could not be loaded.", **own
        )
        self._generation = Gauge("mqsa_model_generation", "Number of the model served.", **own)
        self._waiting = Gauge("mqsa_waiting_requests", "Requests that wait for a batch.", **own)

    def watch(self, generation: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Reads two figures where they are whenever the metrics are asked for."""
        self._generation.set_function(generation)
        self._waiting.set_function(waiting)

    def text(self) -> bytes:
        """All metrics, in the format of Prometheus."""
        return generate_latest(self._registry)


class MeasuredRequests:
    """Counts and times the requests of an application; part of the ASGI stack."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]):
        """Takes the application and the first parts of its paths."""
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            first = "/" + scope["path"].split("/", 2)[1] if "/" in scope["path"] else OTHER
            path = first if first in self._paths else OTHER
            self._metrics.requests.labels(path, status).inc()
            self._metrics.latency.labels(path).observe(time.perf_counter() - began)
