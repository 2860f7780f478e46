"""Checkpoints: restored bit by bit, verified before they are trusted, and refused where they do not
fit."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import Histories, make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.training.state import TrainState, init_state

CONFIG = Config(model=ModelConfig(dim=4, max_len=3))
HISTORIES = make_histories([1, 2], [[5, 8, 13, 21], [34, 8, 5]])
SNAPSHOT = Snapshot(
    history=[{"epoch": 1, "loss": 0.1 + 0.2, "valid_NDCG@20": 1 / 3}],
    config=CONFIG.flat(),
    seed=2023,
    data_fingerprint=HISTORIES.fingerprint(),
)
AWKWARD = np.array([-0.0, 1e-45, np.nextafter(np.float32(1), 2), -np.inf], np.float32)
"""Negative zero, the smallest subnormal, one and a bit, infinity."""


def blank_state(model: ModelConfig = CONFIG.model) -> TrainState:
    """Zeros in the shape of a model's state."""
    config = Config(model=model)
    recommender = Recommender.of(config, HISTORIES.num_items)
    shapes = jax.eval_shape(lambda: init_state(recommender, HParams.of(config), 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return DeviceLayout.of(1).replicate(zeros)


@pytest.fixture(scope="module")
def blank() -> TrainState:
    """What to restore into."""
    return blank_state()


@pytest.fixture(scope="module")
def states(blank) -> list[TrainState]:
    """States of epochs 0 to 5, no two alike in any array of parameters or moments."""
    rng = np.random.default_rng(7)

    def drawn(leaf):
        values = rng.normal(size=leaf.shape).astype(leaf.dtype)
        values.flat[: AWKWARD.size] = AWKWARD[: values.size]
        return values

    def state(epoch: int) -> TrainState:
        params, moments = jax.tree.map(drawn, (blank.params, blank.opt_state))
        moments = moments._replace(count=np.int32(3 * epoch))
        drawn_state = blank.replace(params=params, opt_state=moments, step=np.int32(3 * epoch))
        return DeviceLayout.of(1).replicate(drawn_state)

    return [state(epoch) for epoch in range(6)]


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory, states) -> Path:
    """A folder with the checkpoints of epochs 1, 2 and 3; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, states[epoch], HISTORIES, SNAPSHOT)
    checkpoints.close()
    return folder


@pytest.fixture
def folder(tmp_path, three_epochs) -> Path:
    """A copy of `three_epochs` to do harm to."""
    return Path(shutil.copytree(three_epochs, tmp_path / "checkpoints"))


def assert_bitwise_equal(actual: TrainState, expected: TrainState):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (keys, one), other in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        one, other = np.asarray(one), np.asarray(other)
        same = one.dtype == other.dtype and one.shape == other.shape
        assert same and one.tobytes() == other.tobytes(), keys


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_state_comes_back_bit_by_bit(three_epochs, states, blank, epoch):
    restored = Checkpoints(three_epochs).restore(epoch, blank, HISTORIES)
    assert_bitwise_equal(restored, states[epoch])
    assert int(restored.step) == int(restored.opt_state.count) == 3 * epoch


def test_a_state_comes_back_to_other_devices(three_epochs, states, blank):
    layout = DeviceLayout.of(8)
    restored = Checkpoints(three_epochs).restore(2, layout.replicate(blank), HISTORIES)
    assert_bitwise_equal(restored, states[2])
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding.is_equivalent_to(layout.replicated, leaf.ndim)


def test_a_snapshot_comes_back(three_epochs):
    assert Checkpoints(three_epochs).snapshot(2) == SNAPSHOT


def test_only_the_epochs_asked_for_are_kept(tmp_path, states):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    for epoch in range(1, 6):
        kept = {epoch, epoch - 1, 2}
        delete = partial(checkpoints.keep_only, kept)
        checkpoints.save(epoch, states[epoch], HISTORIES, SNAPSHOT, then=delete)
    checkpoints.wait()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "5"]
    assert [checkpoints.is_whole(epoch) for epoch in (1, 2, 3, 4, 5)] == [0, 1, 0, 1, 1]
    checkpoints.close()


def flip_a_byte(folder: Path):
    file = max((folder / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def delete_manifest(folder: Path):
    (folder / "manifest.json").unlink()


def truncate_manifest(folder: Path):
    (folder / "manifest.json").write_text('{"state/manif')


def delete_state(folder: Path):
    shutil.rmtree(folder / "state")


def add_file(folder: Path):
    (folder / "state" / "d" / "ffff").write_bytes(b"more")


@pytest.mark.parametrize(
    "damage", [flip_a_byte, delete_manifest, truncate_manifest, delete_state, add_file]
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(folder, states, blank, damage):
    assert Checkpoints(folder).latest() == 3
    damage(folder / "3")
    checkpoints = Checkpoints(folder)
    assert not checkpoints.is_whole(3)
    assert checkpoints.latest() == 2
    assert_bitwise_equal(checkpoints.restore(2, blank, HISTORIES), states[2])


def test_without_a_whole_checkpoint_there_is_no_latest(folder, tmp_path):
    for epoch in (1, 2, 3):
        delete_manifest(folder / str(epoch))
    assert Checkpoints(folder).latest() is None
    assert Checkpoints(tmp_path / "none").latest() is None
    assert not (tmp_path / "none").exists()


def test_saving_again_after_a_damaged_checkpoint(folder, states, blank):
    flip_a_byte(folder / "3")
    checkpoints = Checkpoints(folder)
    checkpoints.restore(2, blank, HISTORIES)
    checkpoints.discard_after(2)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    checkpoints.save(3, states[5], HISTORIES, SNAPSHOT)
    assert checkpoints.latest() == 3
    assert_bitwise_equal(checkpoints.restore(3, blank, HISTORIES), states[5])
    checkpoints.close()


def refusal(folder: Path, like: TrainState, histories: Histories) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoints(folder).restore(3, like, histories)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / '3'}: ")
    return message


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (ModelConfig(dim=6, max_len=3), "/item_embedding has shape (5, 4), expected (5, 6)"),
        (ModelConfig(dim=4, max_len=7), "position_embedding has shape (3, 4), expected (7, 4)"),
        (ModelConfig(dim=4, max_len=3, num_blocks=2), "/block_1/"),
    ],
)
def test_a_checkpoint_of_other_shapes_is_refused_by_name(three_epochs, model, named):
    assert named in refusal(three_epochs, blank_state(model), HISTORIES)


def test_a_checkpoint_of_more_blocks_is_refused_by_name(tmp_path, blank):
    checkpoints = Checkpoints(tmp_path)
    deeper = blank_state(ModelConfig(dim=4, max_len=3, num_blocks=2))
    checkpoints.save(3, deeper, HISTORIES, SNAPSHOT)
    checkpoints.close()
    assert "/block_1/" in refusal(tmp_path, blank, HISTORIES)


def test_another_vocabulary_is_refused(three_epochs, blank):
    renumbered = dataclasses.replace(HISTORIES, item_ids=np.array([5, 8, 13, 21, 35]))
    assert "item_ids" in refusal(three_epochs, blank, renumbered)


def test_a_longer_vocabulary_is_refused(three_epochs, blank):
    longer = dataclasses.replace(HISTORIES, item_ids=np.array([5, 8, 13, 21, 34, 55]))
    assert "item_ids has shape (5,), expected (6,)" in refusal(three_epochs, blank, longer)
