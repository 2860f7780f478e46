"""The process of the server: its socket, its threads, and its end."""

import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from mqsa_jax.devices import enable_compilation_cache
from mqsa_jax.server.app import make_app
from mqsa_jax.server.batching import Batcher
from mqsa_jax.server.live_model import LiveModel
from mqsa_jax.server.metrics import Metrics
from mqsa_jax.server.requests import Limits
from mqsa_jax.sockets import listen, url_of

SWITCH_SECONDS = 0.0005
"""After which a thread of Python hands over to another one: the default of 5 ms would be felt."""
END_SECONDS = 30
"""The longest that requests in flight are waited for when the server is asked to end."""


def serve(
    folder: str,
    bound: socket.socket,
    limits: Limits,
    *,
    max_waiting: int,
    reload: bool,
    say: Callable[[str], None],
) -> None:
    """Serves a model until the process is asked to end; then raises SystemExit(0).

    Args:
      folder: of a run or an export.
      bound: the socket; it listens once the model's programs are compiled.
      limits: of a request.
      max_waiting: requests that may wait for a batch; more are turned away.
      reload: whether a changed model is swapped in.
      say: takes a line of the log.
    """
    enable_compilation_cache()
    metrics = Metrics()
    live = LiveModel(folder, limits.max_k, metrics, say)
    batcher = Batcher(lambda: live.answers, max_waiting, metrics)
    metrics.watch(lambda: live.answers.generation, batcher.waiting)
    server = _http_server(make_app(live, batcher, limits, metrics))
    ended = threading.Event()
    watcher = threading.Thread(target=live.watch, args=(ended, reload), name="watcher", daemon=True)
    listen(bound)
    url, model = url_of(bound), live.describe()
    say(f"{url} serves {folder} ({model['name']}, {model['items']:,} items); {url}/docs explains")
    sys.setswitchinterval(SWITCH_SECONDS)
    _end_well()
    batcher.start()
    watcher.start()
    try:
        server.run(sockets=[bound])
    finally:
        ended.set()
        batcher.stop()
        # A thread within JAX when the interpreter ends would end it by a signal.
        watcher.join()


def _http_server(app: FastAPI) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        # Nothing here asks for the address of a client.
        proxy_headers=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    return uvicorn.Server(config)


def _end_well() -> None:
    """Exit code 0 after SIGTERM.

    uvicorn answers what is in flight, and then raises the signal again for the handler before its
    own, which is this one.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
