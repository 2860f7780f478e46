"""Training and ranking on 8 devices, by jit over a mesh and by pmap, equal those on one device.

The sizes divide nothing: 84 users in batches of 20 on 8 devices, so that every batch is filled up,
and the last one, of 4 users, leaves half the devices without any.
"""

import dataclasses
import itertools
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.packing import Capacity
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.models.placement import cut
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import run_key

CONFIG = Config(
    model=ModelConfig(dim=8, num_heads=2, max_len=6, dropout=0.4),
    training=TrainingConfig(batch_size=20, lr=3e-3),
)
EPOCHS = 4  # of 5 steps each: 4 of 20 users and one of 4
LAYOUTS = {
    "pmap": ("pmap", "data=8", "model"),
    "8x1": ("jit", "data=8", "model"),
    "4x2": ("jit", "data=4,model=2", "model"),
    "1x8": ("jit", "data=1,model=8", "model"),
    "8x1 all": ("jit", "data=8", "all"),
    "2x4 all": ("jit", "data=2,model=4", "all"),
}
"""How training spreads over 8 devices, their mesh, and which axes split the items."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What 20 steps come to."""

    loss: np.ndarray
    """[20, 3] loss, ranking loss, distillation loss."""
    gradient: Any
    """Of the first step, like the parameters."""
    params: Any
    """After the last step."""
    ranks: np.ndarray
    """[84] of all users with these parameters."""


def train(parallel: str, mesh: str, shard_items: str = "model", num_devices: int = 8) -> Outcome:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 24, rng.integers(3, 12)) for _ in range(84)]
    histories = make_histories(range(1, 85), sequences)
    experiment = Experiment(CONFIG, histories, DeviceLayout.of(num_devices, mesh, shard_items))
    layout, state = experiment.layout, experiment.initial_state()
    relations = experiment.relations()
    source = experiment.batch_source()
    users = -(-CONFIG.training.batch_size // layout.num_shards)
    capacity = Capacity(users, histories.num_items, int(source.num_successors.sum()))
    program = compile_epoch(experiment.recommender, layout, parallel)
    key = layout.replicate(run_key(0))
    losses, gradient = [], None
    for epoch in range(EPOCHS):
        for batches in source.batches(epoch, 1, capacity):
            assert batches.target.shape[:2] == (1, layout.num_shards)
            state, loss = program(state, batches, key, relations)
            losses.append([float(x[0]) for x in (loss.loss, loss.loss_rec, loss.loss_kd)])
            if gradient is None:
                # Adam's first moment starts from 0: after one step it is 0.1 of the gradient.
                gradient = jax.tree.map(lambda leaf: 10 * np.asarray(leaf), state.opt_state.mu)
                gradient = cut(gradient, histories.num_items)
    ranks = experiment.evaluator(Protocol("test")).ranks(state.params, state.hparams)
    for tree in (state.params, state.opt_state):
        rows = np.asarray(
            jax.tree.leaves(
                tree["item_embedding"] if tree is state.params else tree.mu["item_embedding"]
            )[0]
        )
        assert not rows[histories.num_items :].any()
    params = cut(jax.device_get(state.params), histories.num_items)
    return Outcome(np.array(losses), gradient, params, ranks)


@pytest.fixture(scope="module")
def one_device() -> Outcome:
    return train("jit", "data=1", num_devices=1)


@pytest.fixture(scope="module", params=LAYOUTS)
def many_devices(request) -> Outcome:
    return train(*LAYOUTS[request.param])


def assert_close(actual, expected, atol: float):
    for (keys, one), other in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol, err_msg=str(keys))


def test_losses_of_all_steps_are_equal(one_device, many_devices):
    assert one_device.loss.shape == (20, 3)
    assert one_device.loss[-5:, 0].mean() < one_device.loss[:5, 0].mean()
    np.testing.assert_allclose(many_devices.loss, one_device.loss, rtol=1e-5)


def test_gradients_are_equal(one_device, many_devices):
    largest = [np.abs(leaf).max() for leaf in jax.tree.leaves(one_device.gradient)]
    assert np.median(largest) > 1e-4
    assert_close(many_devices.gradient, one_device.gradient, 1e-7)


def test_parameters_after_20_steps_are_equal(one_device, many_devices):
    # Adam moves every entry by nearly lr a step, 0.06 in all, even where its gradient is so small
    # that rounding shows.
    assert_close(many_devices.params, one_device.params, 3e-4)


def test_ranks_are_equal(one_device, many_devices):
    assert one_device.ranks.shape == (84,)
    assert len(np.unique(one_device.ranks)) > 10
    np.testing.assert_array_equal(many_devices.ranks, one_device.ranks)


def test_all_local_devices_work_unless_fewer_are_asked_for():
    assert DeviceLayout.of(None).devices == jax.local_devices()
    assert DeviceLayout.of(3).devices == jax.local_devices()[:3]
    assert len(jax.local_devices()) == 8


def test_more_devices_than_there_are_is_a_user_error():
    with pytest.raises(UserError, match=r"devices 9 .* the 8 local cpu device\(s\)"):
        DeviceLayout.of(9)


def test_a_mesh_that_the_links_do_not_have_is_a_user_error(monkeypatch):
    def refuse(shape, devices):
        raise NotImplementedError("Failed to find assignment for logical_axis_index 1")

    monkeypatch.setattr("mqsa_jax.devices.mesh_utils.create_device_mesh", refuse)
    chips = [Mock(spec=jax.Device, coords=place) for place in itertools.product(range(4), repeat=3)]
    with pytest.raises(UserError, match="mesh data=8,model=8 cannot lie on .* 4 x 4 x 4 chips"):
        DeviceLayout.over(chips, "data=8,model=8")


def test_users_are_split_and_all_else_replicated():
    layout = DeviceLayout.of(4)
    tree = {"users": np.arange(24).reshape(2, 4, 3), "count": np.float32(7)}
    placed = layout.shard(tree, axis=1)
    parts = placed["users"].addressable_shards
    assert [part.device for part in parts] == layout.devices
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(part.data, tree["users"][:, index : index + 1])
    assert placed["count"].is_fully_replicated
    assert layout.replicate(tree)["users"].is_fully_replicated
