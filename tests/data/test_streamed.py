"""A prepared folder as a stream: the same histories, block by block; damage is named."""

import json
import os

import numpy as np
import pytest

from mqsa_jax.config import Config
from mqsa_jax.data import coverage, splits, streamed, user_groups
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.sources import load_dataset
from mqsa_jax.data.streamed import StreamedHistories, joined, streams
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.grid import with_flags
from tests.data.stream_cases import random_histories, write_folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK_ITEMS", 150)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "log", random_histories(80))


@pytest.fixture(scope="module", params=["one out", "by time"])
def folder_of_split(request, tmp_path_factory):
    cuts = () if request.param == "one out" else (4, 6)
    shortest = 3 if request.param == "one out" else 1
    histories = random_histories(80, shortest=shortest)
    return write_folder(tmp_path_factory.mktemp("data") / "log", histories, cuts=cuts)


def test_blocks_are_the_histories(folder_of_split):
    stream, memory = StreamedHistories.open(folder_of_split), read_prepared(folder_of_split)
    blocks = list(stream.blocks())
    assert len(blocks) > 3 and len({group.path for group in stream.groups}) > 1
    assert joined(blocks).fingerprint() == memory.fingerprint()
    assert (stream.num_users, stream.num_items) == (memory.num_users, memory.num_items)
    assert stream.user_ids.tolist() == memory.user_ids.tolist()
    assert stream.group_sizes.sum() == stream.num_users
    assert all(isinstance(data, Dataset) for data in (stream, memory))
    trained = splits.recent(memory, "train", 99).lengths
    assert stream.trained_U.tolist() == trained.tolist()


def test_what_is_counted_of_all_users_is_the_same(folder_of_split):
    stream, memory = StreamedHistories.open(folder_of_split), read_prepared(folder_of_split)
    for count in (
        splits.item_counts,
        splits.user_counts,
        splits.target_counts,
        coverage.num_training_positions,
    ):
        np.testing.assert_array_equal(count(stream, 5), count(memory, 5))
    for split in ("valid", "test"):
        for sample in (0, 20):
            for function, arguments in (
                (splits.evaluated_users, ()),
                (user_groups.cold_targets, (5,)),
                (user_groups.lengths_before_target, ()),
                (coverage.consumed_targets, ("history", 5)),
                (coverage.untrained_targets, (5,)),
            ):
                here, there = (
                    function(data, split, *arguments, sample=sample) for data in (stream, memory)
                )
                np.testing.assert_array_equal(here, there)
    with pytest.warns(UserWarning) as here:
        coverage.check_trainable(stream)
        coverage.warn_of_consumed_targets(stream, "history", 5)
    with pytest.warns(UserWarning) as there:
        coverage.check_trainable(memory)
        coverage.warn_of_consumed_targets(memory, "history", 5)
    assert [str(each.message) for each in here] == [str(each.message) for each in there]


def test_a_sample_of_users_is_the_same_every_time(folder):
    memory = read_prepared(folder)
    drawn = splits.evaluated_users(memory, "test", sample=20).tolist()
    assert drawn == splits.evaluated_users(memory, "valid", sample=20).tolist()
    assert len(set(drawn)) == 20 and drawn == sorted(drawn)
    assert splits.evaluated_users(memory, "test", sample=80).size == 80


def test_histories_that_cannot_be_split_are_skipped(tmp_path):
    histories = random_histories(40, shortest=1)
    folder = write_folder(tmp_path / "log", histories)
    with pytest.warns(UserWarning, match="skipped .* of 40 histories for having fewer than 3"):
        stream = StreamedHistories.open(folder)
    kept = [user + 100 for user, row in enumerate(histories) if len(row) >= 3]
    assert stream.user_ids.tolist() == kept
    assert joined(list(stream.blocks())).user_ids.tolist() == kept


def test_no_history_is_left(tmp_path):
    folder = write_folder(tmp_path / "log", [np.arange(2)] * 3)
    with pytest.raises(UserError, match="no history is left, as all 3 have fewer than 3 items"):
        StreamedHistories.open(folder)


def test_the_fingerprint_is_that_of_the_files(folder, tmp_path):
    first = StreamedHistories.open(folder).fingerprint()
    same = write_folder(tmp_path / "same", random_histories(80))
    assert StreamedHistories.open(same).fingerprint() == first
    other = random_histories(80)
    other[70] = other[70][::-1].copy()
    changed = write_folder(tmp_path / "changed", other)
    assert StreamedHistories.open(changed).fingerprint() != first


def test_every_damaged_file_is_named(tmp_path):
    folder = write_folder(tmp_path / "log", random_histories(80))
    for name in json.loads((folder / "manifest.json").read_text())["files"]:
        content = (folder / name).read_bytes()
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        (folder / name).write_bytes(bytes(flipped))
        with pytest.raises(UserError, match=f"{name}: not the file that was written"):
            StreamedHistories.open(folder).user_ids  # noqa: B018
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name}: missing"):
            StreamedHistories.open(folder).user_ids  # noqa: B018
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_shard_damaged_while_it_is_in_use_is_named(tmp_path, at):
    """Also where neither its size nor its time of change tell."""
    folder = write_folder(tmp_path / "log", random_histories(80))
    stream = StreamedHistories.open(folder)
    whole = [block.items.tolist() for block in stream.blocks()]
    path = folder / "histories" / "00001.parquet"
    content, status = bytearray(path.read_bytes()), path.stat()
    content[int(at * len(content))] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"{path}: has changed while it is in use"):
        list(stream.blocks())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        read = [block.items.tolist() for block in stream.blocks()]
    except UserError as error:
        assert str(error).startswith(f"{path}: damaged (") and "\n" not in str(error)
    else:
        # Bytes that the histories do not depend on, as times and statistics.
        assert read == whole


def test_large_prepared_folders_are_streamed_unless_told_otherwise(folder, monkeypatch):
    assert not streams("auto", str(folder))
    monkeypatch.setattr(streamed, "STREAM_INTERACTIONS", 500)
    assert streams("auto", str(folder))
    assert not streams("never", str(folder))
    assert not streams("auto", "toys")
    with pytest.raises(SettingError, match="stream always needs a prepared folder, which toys is"):
        streams("always", "toys")
    config = with_flags(Config(), dataset=str(folder), stream="always")
    assert isinstance(load_dataset(config), StreamedHistories)
