"""Finding and downloading data sets, against a server on this machine's loopback."""

# ruff: noqa: D103 - a test's name says what it shows

import gc
import hashlib
import logging
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest

from mqsa_jax.data import sources
from mqsa_jax.data.sources import Source, dataset_names, find_dataset, resolve_dataset
from mqsa_jax.errors import UserError

CONTENT = b"1 1 2 3\n2 3 2 1\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE_NAME = "Toys_and_Games.txt"
UNUSED_URL = "http://127.0.0.1:9/never-asked"


@pytest.fixture(autouse=True)
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


def put(folder: Path, content: bytes = CONTENT) -> Path:
    """Write the file of `toys` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_bytes(content)
    return path


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def error_of(function, *args, **kwargs) -> str:
    """The one-line message of the error that a call raises."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# The registry.


def test_dataset_names():
    assert dataset_names() == ("synthetic", "beauty", "sports", "toys", "yelp")


def test_sources_are_pinned(monkeypatch):
    monkeypatch.undo()
    assert sources.BASE_URL == (
        "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/"
        "2a81540ae18615d88ef88227b0c066e5b74781e5/data"
    )
    assert {name: (s.file_name, s.sha256[:8]) for name, s in sources.SOURCES.items()} == {
        "beauty": ("Beauty.txt", "226cce9c"),
        "sports": ("Sports_and_Outdoors.txt", "2a095e06"),
        "toys": ("Toys_and_Games.txt", "176c680c"),
        "yelp": ("Yelp.txt", "724b2191"),
    }
    assert all(len(bytes.fromhex(source.sha256)) == 32 for source in sources.SOURCES.values())


# Files at hand.


def test_data_dir_comes_first_then_variable_then_cache(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("MQSA_DATA_DIR", str(tmp_path / "variable"))
    in_dir, in_variable, in_cache = (
        put(folder) for folder in (tmp_path / "dir", tmp_path / "variable", cache)
    )
    find = dict(data_dir=tmp_path / "dir", base_url=UNUSED_URL)
    assert find_dataset("toys", **find) == in_dir
    in_dir.unlink()
    assert find_dataset("toys", **find) == in_variable
    in_variable.unlink()
    assert find_dataset("toys", **find) == in_cache


def test_data_dir_may_be_a_string(tmp_path):
    path = put(tmp_path / "dir")
    assert find_dataset("toys", str(tmp_path / "dir"), base_url=UNUSED_URL) == path


def test_empty_variable_counts_as_unset(monkeypatch, cache):
    monkeypatch.setenv("MQSA_DATA_DIR", "")
    path = put(cache)
    assert find_dataset("toys", base_url=UNUSED_URL) == path


def test_data_dir_that_is_no_directory(tmp_path, server):
    path = put(tmp_path / "dir")
    for folder in (path, tmp_path / "absent"):
        assert error_of(find_dataset, "toys", folder, base_url=server.url) == (
            f"data_dir {str(folder)!r} is no directory; "
            "name the folder that holds Toys_and_Games.txt"
        )
    assert server.requests == []


def test_variable_that_names_no_directory(tmp_path, monkeypatch, server):
    monkeypatch.setenv("MQSA_DATA_DIR", str(tmp_path / "absent"))
    message = error_of(find_dataset, "toys", base_url=server.url)
    assert message.startswith(f"$MQSA_DATA_DIR {str(tmp_path / 'absent')!r} is no directory; ")
    assert server.requests == []


@pytest.mark.parametrize("location", ["data_dir", "variable", "cache"])
def test_wrong_checksum_at_hand_is_refused_and_kept(location, tmp_path, monkeypatch, cache, server):
    folder = cache if location == "cache" else tmp_path / location
    path = put(folder, b"1 1 2 4\n")
    if location == "variable":
        monkeypatch.setenv("MQSA_DATA_DIR", str(folder))
    data_dir = folder if location == "data_dir" else None
    message = error_of(find_dataset, "toys", data_dir, base_url=server.url)
    assert message.startswith(f"{path}: wrong checksum ")
    assert SHA256 in message
    assert hashlib.sha256(b"1 1 2 4\n").hexdigest() in message
    assert "delete it to download afresh" in message
    assert f"dataset {path}" in message
    assert path.read_bytes() == b"1 1 2 4\n"
    assert server.requests == []


def test_unreadable_file(tmp_path, monkeypatch):
    path = put(tmp_path / "dir")

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert error_of(find_dataset, "toys", tmp_path / "dir") == (
        f"{path}: cannot be read: Permission denied; check the file"
    )


def test_import_does_not_load_pooch():
    code = "import sys, mqsa_jax.data.sources; sys.exit('pooch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Downloads.


def test_download_goes_to_the_cache_once(cache, server):
    expected = cache / FILE_NAME
    assert find_dataset("toys", base_url=server.url) == expected
    assert expected.read_bytes() == CONTENT
    assert find_dataset("toys", base_url=server.url) == expected
    assert server.requests == ["/data/Toys_and_Games.txt"]
    assert files_below(cache) == [expected]


def test_download_logs_nothing(cache, server):
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    pooch.get_logger().addHandler(handler)
    pooch.get_logger().setLevel("INFO")
    try:
        find_dataset("toys", base_url=server.url)
    finally:
        pooch.get_logger().removeHandler(handler)
    assert server.requests == ["/data/Toys_and_Games.txt"]
    assert records == []


def test_download_with_an_empty_data_dir(tmp_path, cache, server):
    folder = tmp_path / "dir"
    folder.mkdir()
    assert find_dataset("toys", folder, base_url=server.url + "/") == cache / FILE_NAME
    assert server.requests == ["/data/Toys_and_Games.txt"]
    assert files_below(folder) == []


def assert_download_fails(base_url: str, cache: Path, reason: str) -> None:
    """The message names the reason and the remedy, and the cache holds no file."""
    assert error_of(find_dataset, "toys", base_url=base_url) == (
        f"cannot download {base_url}/Toys_and_Games.txt to {cache}: {reason}; "
        "fetch Toys_and_Games.txt from there by hand "
        "and name its folder with data_dir or $MQSA_DATA_DIR"
    )
    assert files_below(cache) == []


def test_download_with_wrong_checksum(cache, server):
    server.body = b"<html>please sign in</html>"
    assert_download_fails(server.url, cache, "what came has a wrong checksum")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("status", [404, 503])
def test_download_refused_by_the_server(cache, server, status):
    server.status = status
    assert_download_fails(server.url, cache, f"HTTP status {status}")
    gc.collect()  # would warn of a connection left open


def test_download_cut_short(cache, server):
    server.promised = len(CONTENT) + 100
    assert_download_fails(server.url, cache, "the connection failed (ChunkedEncodingError)")


def test_download_without_connection(cache):
    with socket.socket() as unheard:  # bound but not listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        assert_download_fails(url, cache, "the connection failed (ConnectionError)")


def test_download_into_a_cache_that_is_a_file(cache, server):
    cache.parent.mkdir()
    cache.write_bytes(b"")
    message = error_of(find_dataset, "toys", base_url=server.url)
    assert message.startswith(f"cannot download {server.url}/{FILE_NAME} to {cache}: ")
    assert ": Not a directory; " in message
    assert server.requests == []


def test_download_into_a_cache_that_may_not_be_written(cache, server, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr("os.makedirs", refuse)
    assert_download_fails(server.url, cache, "no permission to write")
    assert server.requests == []


def test_failed_download_can_be_tried_again(cache, server):
    server.status = 503
    assert_download_fails(server.url, cache, "HTTP status 503")
    server.status = 200
    assert find_dataset("toys", base_url=server.url) == cache / FILE_NAME


# From what a user writes to a file.


@pytest.mark.parametrize("name", ["synthetic", "Synthetic"])
def test_synthetic_has_no_file(name, tmp_path):
    assert resolve_dataset(name, None) is None
    assert resolve_dataset(name, tmp_path) is None


@pytest.mark.parametrize("name", ["toys", "Toys", "TOYS"])
def test_names_are_found_in_any_case(name, tmp_path):
    path = put(tmp_path)
    assert resolve_dataset(name, tmp_path, base_url=UNUSED_URL) == path


def test_resolve_passes_the_url_on(cache, server):
    assert resolve_dataset("toys", base_url=server.url) == cache / FILE_NAME


@pytest.mark.parametrize("name", ["own.txt", "own", "folder/own"])
def test_path_of_an_existing_file(name, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / name).write_bytes(CONTENT)
    assert resolve_dataset(str(tmp_path / name), None) == tmp_path / name
    monkeypatch.chdir(tmp_path)
    assert resolve_dataset(name, None) == Path(name)


def test_known_name_comes_before_a_file_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "toys").write_bytes(b"1 9 9 9\n")
    path = put(tmp_path / "dir")
    monkeypatch.chdir(tmp_path)
    assert resolve_dataset("toys", tmp_path / "dir", base_url=UNUSED_URL) == path


@pytest.mark.parametrize("path", ["absent.txt", "no/such", "./beauty", "toys.txt", "beauty/"])
def test_path_of_no_file(path):
    assert error_of(resolve_dataset, path, None) == (
        f"no such file: '{path}'; check the path, "
        "or use one of: synthetic, beauty, sports, toys, yelp"
    )


@pytest.mark.parametrize("path", ["folder", "./folder", "."])
def test_path_of_a_directory(path, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert error_of(resolve_dataset, path, None) == (
        f"data set '{path}' is a directory; name a file in it"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("beuty", "did you mean beauty? "),
        ("Sport", "did you mean sports? "),
        ("toy", "did you mean toys? "),
        ("synthetics", "did you mean synthetic? "),
        ("movielens", ""),
        ("", ""),
    ],
)
def test_unknown_name(name, hint):
    expected = (
        f"unknown data set '{name}'; {hint}use one of: "
        "synthetic, beauty, sports, toys, yelp, or the path of a file"
    )
    assert error_of(resolve_dataset, name, None) == expected
    assert error_of(find_dataset, name) == expected


def test_message_stays_on_one_line_whatever_the_name():
    assert "'a\\nb'" in error_of(resolve_dataset, "a\nb", None)
    assert "'a\\nb.txt'" in error_of(resolve_dataset, "a\nb.txt", None)
    error_of(resolve_dataset, "x" * 5000, None)
    error_of(resolve_dataset, "nul\0", None)
