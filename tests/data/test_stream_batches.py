"""Batches of a stream: those of data in memory, whoever reads and packs them."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from mqsa_jax.data import stream_batches
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.packing import Capacity
from mqsa_jax.data.prepared import read_prepared
from mqsa_jax.data.stream_batches import StreamBatches
from mqsa_jax.data.stream_packer import Packer, Span
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.errors import UserError
from tests.data.stream_cases import random_histories, write_folder

USERS, T, SIZE, SEED = 101, 6, 16, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("data") / "log", random_histories(USERS), group_events=15
    )


@pytest.fixture(scope="module")
def stream(folder):
    return StreamedHistories.open(folder)


@pytest.fixture(scope="module")
def counts(folder):
    return training_transitions(read_prepared(folder), T)


def batches(stream, counts, window=48, workers=0, seed=SEED, own=None, **options):
    """Of four shards."""
    settings = (SIZE, T, seed, 4)
    return StreamBatches.of(stream, window, workers, counts, *settings, shards=own, **options)


def taken(source, first=0, last=2, steps=3, **options):
    return [list(epoch) for epoch in source.epochs(first, last, steps, **options)]


def users_of(epochs):
    """Sorted (items, targets) of every history of each epoch, and in which step each was."""
    result = []
    for epoch in epochs:
        found = []
        for stack in epoch:
            for step in range(len(stack.num_positions)):
                inputs, target = jax.tree.map(
                    lambda leaf, step=step: leaf[step], (stack.inputs, stack.target)
                )
                for number in np.unique(inputs.segment_ids[inputs.segment_ids >= 0]):
                    own = inputs.segment_ids == number
                    found.append((tuple(inputs.item[own]), tuple(target[own])))
        result.append(found)
    return result


def test_one_window_gives_the_batches_of_data_in_memory(folder, stream, counts):
    memory = BatchSource(read_prepared(folder), counts, SIZE, T, SEED, 4)
    expected = [list(epoch) for epoch in memory.epochs(0, 2, 3)]
    chex.assert_trees_all_equal(taken(batches(stream, counts, window=USERS)), expected)


def test_every_epoch_has_every_user_once_in_another_order(folder, stream, counts):
    assert batches(stream, counts).order.num_lanes > 1
    memory = BatchSource(read_prepared(folder), counts, SIZE, T, SEED, 4)
    (expected,) = users_of([list(memory.batches(0, 3, memory.capacity()))])
    first, second = users_of(taken(batches(stream, counts)))
    (other,) = users_of(taken(batches(stream, counts, seed=5), last=1))
    for found in (first, second, other):
        assert sorted(found) == sorted(expected)
    assert first != second and first != other


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(stream, counts, workers):
    expected = taken(batches(stream, counts))
    chex.assert_trees_all_equal(taken(batches(stream, counts, workers=workers)), expected)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_processes_put_together_are_the_batches(stream, counts, processes):
    """Each packs its own shards, and all agree on the sizes."""
    whole = taken(batches(stream, counts))
    each, asked = 4 // processes, []
    shares = []
    for first in range(0, 4, each):
        source = batches(
            stream,
            counts,
            agree=lambda needed: asked.append(needed) or needed,
            own=range(first, first + each),
        )
        shares.append(taken(source))
    assert len(asked) == processes * sum(map(len, whole))
    for epoch, expected in enumerate(whole):
        for number, stack in enumerate(expected):
            parts = [share[epoch][number] for share in shares]
            for part in parts:
                np.testing.assert_array_equal(part.num_positions, stack.num_positions)
            joined = jax.tree.map(
                lambda *leaves: np.concatenate(leaves, axis=1) if leaves[0].ndim > 1 else leaves[0],
                *parts,
            )
            chex.assert_trees_all_equal(joined, stack)


def test_processes_agree_on_sizes_beyond_the_capacity(stream, counts):
    most = Capacity(11, 40, 300)
    source = batches(stream, counts, agree=lambda needed: most, own=range(2))
    capacity = source.capacity()
    assert capacity.rows < most.rows
    enough = capacity.holding(most)
    plain = dataclasses.replace(source, agree=lambda needed: needed)
    for grown, own in zip(taken(source, last=1)[0], taken(plain, last=1)[0], strict=True):
        assert grown.inputs.item.shape[2] == enough.rows
        assert grown.distinct_item.shape[2] == enough.distinct
        assert users_of([[grown]]) == users_of([[own]])


def test_a_process_reads_its_own_lanes_alone(stream, counts, monkeypatch):
    loaded = []
    load = Packer._load

    def told(packer, epoch, window):
        loaded.append(window.lane)
        return load(packer, epoch, window)

    source = batches(stream, counts, own=range(1, 2))
    monkeypatch.setattr(Packer, "_load", told)
    source.packer().draft(Span(0, 0, 7))
    assert source.order.num_lanes == 8 and set(loaded) == {1, 5}


@pytest.mark.parametrize("first_step", [0, 1, 3, 6, 7])
def test_going_on_within_an_epoch(stream, counts, first_step):
    source = batches(stream, counts)
    whole = taken(source)
    rest = taken(batches(stream, counts), first=0, first_step=first_step)
    steps_of = [
        users_of([[jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], stack)]])[0]
        for stack in whole[0]
        for n in range(len(stack.num_positions))
    ]
    expected = [user for step in steps_of[first_step:] for user in step]
    assert source.num_steps == len(steps_of) == 7
    assert users_of(rest)[0] == expected
    chex.assert_trees_all_equal(rest[1], whole[1])


def test_a_later_epoch_is_what_it_is_when_training_goes_on_there(stream, counts):
    whole = taken(batches(stream, counts), last=3)
    chex.assert_trees_all_equal(taken(batches(stream, counts), first=2, last=3), whole[2:])


def test_stacks_are_no_larger_than_they_may_be(stream, counts, monkeypatch):
    source = batches(stream, counts)
    step = source._step_bytes(source.capacity())
    monkeypatch.setattr(stream_batches, "STACK_BYTES", 2 * step)
    lengths = [len(stack.num_positions) for stack in taken(source, steps=512)[0]]
    assert lengths == [2, 2, 2, 1]


def test_users_beyond_the_sampled_sizes_are_not_lost(stream, counts, monkeypatch, capsys):
    expected = users_of(taken(batches(stream, counts)))
    monkeypatch.setattr(StreamBatches, "capacity", lambda self: Capacity(1, 1, 1))
    assert users_of(taken(batches(stream, counts))) == expected
    assert "epoch 1: a larger batch, its program is compiled" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_goes_missing_is_named(tmp_path, counts, workers):
    folder = write_folder(tmp_path / "log", random_histories(USERS))
    stream = StreamedHistories.open(folder)
    path = folder / "histories" / "00002.parquet"
    epochs = batches(stream, counts, workers=workers).epochs(0, 2, 1)
    first = next(epochs)
    next(first)
    path.unlink()
    with pytest.raises(UserError, match=f"^{path}: missing; prepare the data set again$"):
        for epoch in (first, *epochs):
            list(epoch)
