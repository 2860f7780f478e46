"""A server and a cache of data sets, and files of histories."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from mqsa_jax.data import sources
from mqsa_jax.data.sources import Source
from tests.data.source_cases import CONTENT, FILE_NAME, SHA256


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The file `toys` shrunk to `CONTENT`, and an empty cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MQSA_DATA_DIR", raising=False)
    monkeypatch.setitem(sources.SOURCES, "toys", Source(FILE_NAME, SHA256))
    return tmp_path / "cache" / "mqsa_jax"


@pytest.fixture
def server():
    """A server whose answer is set by its `status`, `body` and `promised` (bytes; None: all)."""
    answer = SimpleNamespace(status=200, body=CONTENT, promised=None, requests=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            answer.requests.append(self.path)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(answer.promised or len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answer.url = f"http://127.0.0.1:{http.server_port}/data"
        yield answer
        http.shutdown()
        thread.join()


@pytest.fixture
def write(tmp_path):
    """A function that writes text or bytes to a file and returns its path."""

    def write_file(content: str | bytes, name: str = "log.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file
