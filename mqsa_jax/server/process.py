"""The process of the server: its socket, its threads, and its end."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn

from mqsa_jax.devices import enable_compilation_cache
from mqsa_jax.errors import UserError
from mqsa_jax.server.app import make_app
from mqsa_jax.server.batching import Batcher
from mqsa_jax.server.live_model import LiveModel
from mqsa_jax.server.metrics import Metrics
from mqsa_jax.server.requests import Limits

SWITCH_SECONDS = 0.0005
"""After which a thread of Python hands over to another one: the default of 5 ms would be felt."""
END_SECONDS = 30
"""The longest that requests in flight are waited for when the server is asked to end."""


@contextlib.contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that holds the address and does not listen yet; port 0: any that is free.

    Raises:
      UserError: if there is no such host, or the port cannot be had.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host}: {reason}; name an address of this machine") from None
    with socket.socket(family, kind, number) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            raise UserError(
                f"{host}:{port}: {error.strerror}; give another --port or --host"
            ) from None
        yield bound


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
    config = uvicorn.Config(
        make_app(live, batcher, limits, metrics),
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
    ended = threading.Event()
    watcher = threading.Thread(target=live.watch, args=(ended, reload), name="watcher", daemon=True)
    bound.listen()
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    model = live.describe()
    say(
        f"http://{shown}:{port} serves {folder} ({model['name']}, {model['items']:,} items); "
        f"http://{shown}:{port}/docs explains"
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    _end_well()
    batcher.start()
    watcher.start()
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        ended.set()
        batcher.stop()
        # A thread within JAX when the interpreter ends would end it by a signal.
        watcher.join()


def _end_well() -> None:
    """Exit code 0 after SIGTERM.

    uvicorn answers what is in flight, and then raises the signal again for the handler before its
    own, which is this one.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
