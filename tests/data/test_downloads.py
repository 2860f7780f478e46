"""Downloads of data sets, from a server on this machine's loopback."""

import gc
import logging
import socket
from pathlib import Path

import pooch
import pytest

from mqsa_jax.data.sources import find_dataset
from tests.data.source_cases import CONTENT, FILE_NAME, error_of

pytestmark = pytest.mark.usefixtures("cache")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


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
