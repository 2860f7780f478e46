"""Finding the file of a data set, by its name or by its path."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mqsa_jax.data import sources
from mqsa_jax.data.sources import dataset_names, find_dataset, resolve_dataset
from tests.data.source_cases import CONTENT, FILE_NAME, SHA256, UNUSED_URL, error_of, put

pytestmark = pytest.mark.usefixtures("cache")


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
        f"{path}: no prepared data set, as it has no manifest.json; make one of a raw log: "
        "mqsa-jax prepare LOG --output FOLDER"
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
