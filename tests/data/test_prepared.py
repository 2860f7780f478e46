"""A prepared folder that is not what was written is refused, file by file."""

import json
import shutil

import pytest

from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.sources import check_dataset, load_histories
from mqsa_jax.errors import UserError
from tests.prepare.log_cases import prepared, random_events, write_csv


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepared(write_csv(folder / "log.csv", random_events(0)), folder / "out")
    return folder / "out"


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_every_file_is_verified(whole, copy):
    names = json.loads((whole / "manifest.json").read_text())["files"]
    assert sorted(names) == ["histories/00000.parquet", "items.parquet", "users.parquet"]
    for name in names:
        content = (copy / name).read_bytes()
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        (copy / name).write_bytes(bytes(flipped))
        with pytest.raises(UserError, match=f"{name}: not the file that was written"):
            read_prepared(copy)
        (copy / name).unlink()
        with pytest.raises(UserError, match=f"{name}: missing"):
            read_prepared(copy)
        (copy / name).write_bytes(content)
    assert read_prepared(copy).fingerprint() == read_prepared(whole).fingerprint()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"format_version": "1", "files": {}}', "damaged"),
        ('{"format_version": 99, "files": {}}', "format version 99 is unknown"),
        ("\udcff", "damaged"),
    ],
)
def test_a_broken_manifest(copy, text, problem):
    (copy / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=problem):
        load_histories(str(copy))


def test_a_folder_without_a_manifest(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match="no prepared data set, as it has no manifest.json; make"):
        check_dataset(str(copy))
