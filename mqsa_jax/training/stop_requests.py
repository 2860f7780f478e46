"""Requests to end, by SIGTERM or a notice of preemption, answered between programs."""

import signal
import threading

from jax.experimental.multihost_utils import reached_preemption_sync_point

from mqsa_jax import hosts


class StopRequests:
    """A context in which a request to end is kept until it is asked for.

    Alone, a process keeps SIGTERM to itself here; a second one ends it at once. Of several
    processes JAX watches each, for SIGTERM and for what the platform gives notice of, and lets them
    agree on a point that all of them reach.
    """

    def __init__(self):
        self._received = False
        self._asked = 0
        self._before: signal.Handlers | None = None

    def __enter__(self) -> "StopRequests":
        # Only the main thread may say what a signal does.
        if hosts.num_processes() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _receive(self, number: int, _: object) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)

    def reached(self) -> bool:
        """Whether to save and end here. All processes must ask, equally often."""
        # JAX compares the calls of the processes by their numbers.
        self._asked += 1
        return self._received or reached_preemption_sync_point(self._asked)
