"""`serve`: answers requests for recommendations over HTTP.

JAX and the web server are imported only once the arguments have proved good.
"""

import dataclasses
import os
from collections.abc import Sequence

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.errors import UserError
from mqsa_jax.extras import check_extra
from mqsa_jax.sockets import bound_socket


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """The flags of the command."""

    model: str
    """Folder of a run or an export."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all of this machine's."""
    port: int = 8000
    """Port to listen at; 0 for any that is free."""
    reload_on_change: bool = False
    """Loads a model that has changed, and serves it once it is ready."""
    max_history: int = 1000
    """Items of a history, at most."""
    max_k: int = 100
    """Items of a list, at most."""
    max_body: int = 1_000_000
    """Bytes of a request, at most."""
    max_waiting: int = 1000
    """Requests that may wait; more are turned away with 503."""


def serve_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax serve") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _serve, arguments)


def _serve(program: str, arguments: Sequence[str]) -> None:
    """Serves recommendations over HTTP: JSON in, JSON out; /docs explains."""
    options = parse(program, ServeConfig, arguments, _serve.__doc__)
    _check(options)
    check_extra("serve", "serve")

    with bound_socket(options.host, options.port) as bound:
        from mqsa_jax.server.process import serve
        from mqsa_jax.server.requests import Limits

        serve(
            options.model,
            bound,
            Limits(max_history=options.max_history, max_k=options.max_k, max_body=options.max_body),
            max_waiting=options.max_waiting,
            reload=options.reload_on_change,
            say=lambda line: print(f"{program}: {line}", flush=True),
        )


def _check(options: ServeConfig) -> None:
    """Raises UserError if a flag is out of range or names nothing."""
    for name in ("max_history", "max_k", "max_body", "max_waiting"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} must be at least 1, got {getattr(options, name)}")
    if not os.path.isdir(options.model):
        raise UserError(
            f"--model {options.model}: no such folder; name the folder of a run or an export"
        )
