"""What `serve` refuses before it listens."""

import socket
import sys

import pytest

pytest.importorskip("fastapi")

from mqsa_jax.commands.serve import serve_main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=no/such"], "--model no/such: no such folder"),
        (["--model=.", "--max-k=0"], "--max-k must be at least 1"),
        (["--model=.", "--max-body=0"], "--max-body must be at least 1"),
        (["--model=.", "--port=70000"], "--port must be 0 to 65535"),
        (["--model=.", "--host=256.1.1.1", "--port=0"], "--host 256.1.1.1: "),
        (["--model=.", "--host=192.0.2.1", "--port=0"], "--port 0 of --host 192.0.2.1 cannot be "),
        (["--model=.", "--port=0"], "config.json: no such file"),
    ],
)
def test_a_bad_start_is_refused(refused, flags, message):
    assert message in refused(serve_main, *flags)


def test_a_port_in_use_is_refused(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(serve_main, "--model=.", f"--port={port}")
    assert f"--port {port} of --host 127.0.0.1 is in use; choose another one, or 0 for" in line


def test_a_missing_extra_is_named(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    line = refused(serve_main, "--model=.", "--port=0")
    assert "serve needs uvicorn: pip install 'mqsa-jax[serve]'" in line
