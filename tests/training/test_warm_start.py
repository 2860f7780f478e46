"""Starting from another run: which vector each item gets, and what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import scipy.sparse

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.ids import as_ids
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.grid import with_flags
from mqsa_jax.models.registry import with_model
from mqsa_jax.runs.best_checkpoint import best_checkpoint
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training import loop
from mqsa_jax.training.counted_runs import count_and_test
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from mqsa_jax.training.trial import Trial
from mqsa_jax.training.warm_start import ItemOrigins, item_embedding, read_source

MAX_LEN = 6
CONFIG = Config(
    model=ModelConfig(dim=8, max_len=MAX_LEN),
    training=TrainingConfig(batch_size=16, epochs=2, lr=0.02),
)
OLD_ITEMS, NEW_ITEMS = np.arange(10, 40), np.arange(15, 48)


def histories_of(items, seed, kind=int):
    """40 histories of 4 to 12 of the items; ids are ten times as large, and of that kind."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(items)[: rng.integers(4, 13)] for _ in range(40)]
    return make_histories(range(1, 41), [[kind(10 * item) for item in row] for row in rows])


OLD, NEW = histories_of(OLD_ITEMS, 0), histories_of(NEW_ITEMS, 1)


def experiment_of(config, histories):
    return Experiment(config, histories, DeviceLayout.of(1))


@pytest.fixture(scope="module", params=["mqsa-ted", "mqsa-ted-plus", "graphsage"])
def old_run(request, tmp_path_factory):
    """A run on the earlier data, and its configuration."""
    config = with_model(CONFIG, request.param)
    run_dir = RunDirectory(tmp_path_factory.mktemp("old") / request.param)
    train(experiment_of(config, OLD), run_dir, resume=False)
    return config, run_dir


def warm(config, run_dir, **flags):
    return with_flags(config, init_from=str(run_dir.path), seed=5, **flags)


def neighbours_of(item, histories):
    """Ids next to an item in the training items that are read, by plain loops."""
    found = set()
    for row in np.split(histories.item_ids[histories.items], histories.offsets[1:-1]):
        read = row[:-2][-MAX_LEN:].tolist()
        for one, other in zip(read, read[1:], strict=False):
            found |= {other} if one == item else {one} if other == item else set()
    return found


def test_hand_computed_vectors():
    old_WD = np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 8.0]], np.float32)
    initial_VD = np.full((4, 2), 9, np.float32)
    # Items 2 and 4 stay, 1 goes; 3 follows 2 three times and precedes 4; 6 is next to 3 alone.
    counts = scipy.sparse.csr_array(([3.0, 1.0, 2.0], ([0, 1, 1], [1, 2, 3])), shape=(4, 4))
    vector_VD, origins = item_embedding(
        old_WD, as_ids([1, 2, 4], "old"), as_ids([2, 3, 4, 6], "new"), counts, initial_VD
    )
    assert vector_VD.tolist() == [[3, 4], [4, 6], [5, 8], [9, 9]]
    assert origins == ItemOrigins(carried_over=2, from_neighbours=1, from_nothing=1, gone=1)
    assert vector_VD.dtype == np.float32
    with pytest.raises(ValueError, match="initial vectors must have the shape"):
        item_embedding(old_WD, as_ids([1, 2, 4], "old"), as_ids([2], "new"), counts, initial_VD)


def test_every_array_is_what_it_should_be(old_run):
    config, run_dir = old_run
    new = experiment_of(warm(config, run_dir), NEW)
    source = read_source(run_dir.path)
    state, origins = new.warm_state(source)
    plain = best_checkpoint(run_dir).restore_plain()
    old_params = plain["params"] if plain["ema_params"] is None else plain["ema_params"]
    old_VD = np.asarray(old_params["item_embedding"])
    vector_of = dict(zip(OLD.item_ids.tolist(), old_VD, strict=True))
    fresh = new.initial_state()
    expected, counts = [], {"carried": 0, "neighbours": 0, "nothing": 0}
    for index, item in enumerate(NEW.item_ids.tolist()):
        near = [vector_of[other] for other in neighbours_of(item, NEW) if other in vector_of]
        kind = "carried" if item in vector_of else "neighbours" if near else "nothing"
        initial = np.asarray(fresh.params["item_embedding"][index])
        expected.append(
            vector_of[item]
            if kind == "carried"
            else np.mean(near, axis=0, dtype=np.float64)
            if near
            else initial
        )
        counts[kind] += 1
    actual = np.asarray(state.params["item_embedding"])
    known = np.isin(NEW.item_ids, OLD.item_ids)
    np.testing.assert_array_equal(actual[known], np.array(expected)[known])
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    gone = len(set(OLD.item_ids.tolist()) - set(NEW.item_ids.tolist()))
    assert origins == ItemOrigins(*counts.values(), gone)
    assert min(*counts.values(), gone) > 0 or counts["nothing"] == 0
    for name in state.params.keys() - {"item_embedding", "transition_term"}:
        jax.tree.map(np.testing.assert_array_equal, state.params[name], old_params[name])
    # A term that is not trained has the weights of the configuration.
    if "transition_term" in state.params:
        term = fresh.params["transition_term"]
        jax.tree.map(np.testing.assert_array_equal, state.params["transition_term"], term)
    if new.with_ema:
        jax.tree.map(np.testing.assert_array_equal, state.ema_params, state.params)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt_state))
    assert int(state.step) == 0
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), state, fresh)


def test_training_from_a_run_says_so_and_resumes_to_the_bit(old_run, tmp_path, capsys):
    config, run_dir = old_run
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    train(experiment_of(warm(config, run_dir, epochs=3), NEW), whole, resume=False)
    printed = capsys.readouterr().out
    said = [line for line in printed.splitlines() if line.startswith("Starting from ")]
    assert len(said) == 1 and f"{run_dir.path}, epoch " in said[0]
    assert "items carried over" in said[0] and "of that run are gone" in said[0]
    train(experiment_of(warm(config, run_dir, epochs=1), NEW), parts, resume=False)
    capsys.readouterr()
    moved = shutil.move(run_dir.path, tmp_path / "moved")
    try:
        # It goes on from its own checkpoints, whatever became of the other run.
        train(experiment_of(warm(config, run_dir, epochs=3), NEW), parts, resume=True)
    finally:
        shutil.move(moved, run_dir.path)
    assert "Starting from" not in capsys.readouterr().out
    states = []
    for folder in (whole, parts):
        checkpoints = Checkpoints(folder.checkpoints)
        states.append(checkpoints.restore_plain(3))
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *states)


def refused(config, histories, tmp_path, match):
    run_dir = RunDirectory(tmp_path / "new")
    with pytest.raises(UserError, match=match) as caught:
        train(experiment_of(config, histories), run_dir, resume=False)
    assert "\n" not in str(caught.value)
    assert not run_dir.config_file.exists() and not run_dir.checkpoints.exists()


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    run_dir = RunDirectory(tmp_path_factory.mktemp("old") / "small")
    train(experiment_of(with_flags(CONFIG, epochs=1), OLD), run_dir, resume=False)
    return run_dir


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"dim": 4}, r"\(dim 8 there, 4 here\)"),
        ({"max_len": 7, "num_blocks": 2}, r"\(max_len 6 there, 7 here, num_blocks 1 there, 2"),
        ({"num_heads": 2}, r"\(num_heads 1 there, 2 here\)"),
        ({"model": "mqsa", "lambda_kd": 0.0}, r"\(model mqsa-ted there, mqsa here\)"),
        ({"term_items": 2}, r"\(term_items 0 there, 2 here\)"),
    ],
)
def test_settings_that_shape_the_parameters_must_agree(small_run, tmp_path, flags, named):
    refused(warm(CONFIG, small_run, **flags), NEW, tmp_path, named)


def test_other_settings_may_differ(small_run, tmp_path):
    config = warm(CONFIG, small_run, lr=0.01, alpha=0.2, window=2, ema_decay=0.9, epochs=1)
    train(experiment_of(config, NEW), RunDirectory(tmp_path / "new"), resume=False)


def test_ids_of_another_kind_and_other_items_are_refused(small_run, tmp_path):
    strings = histories_of(NEW_ITEMS, 1, kind=str)
    named = "ids of items are integers there, but strings in the data"
    refused(warm(CONFIG, small_run), strings, tmp_path, named)
    others = histories_of(np.arange(100, 130), 1)
    refused(warm(CONFIG, small_run), others, tmp_path, "none of its 30 items is in the data")


def test_items_named_by_strings_are_carried_over(tmp_path):
    old, new = (histories_of(items, 0, kind=str) for items in (OLD_ITEMS, NEW_ITEMS))
    run_dir = RunDirectory(tmp_path / "old")
    train(experiment_of(with_flags(CONFIG, epochs=1), old), run_dir, resume=False)
    source = read_source(run_dir.path)
    state, origins = experiment_of(warm(CONFIG, run_dir), new).warm_state(source)
    common = sorted(set(old.item_ids.tolist()) & set(new.item_ids.tolist()))
    assert origins.carried_over == len(common) > 20
    rows = [new.item_ids.tolist().index(name) for name in common]
    old_rows = [old.item_ids.tolist().index(name) for name in common]
    np.testing.assert_array_equal(
        np.asarray(state.params["item_embedding"])[rows],
        source.params["item_embedding"][old_rows],
    )


def test_missing_damaged_and_counted_runs_are_refused(small_run, tmp_path):
    missing = RunDirectory(tmp_path / "missing")
    refused(warm(CONFIG, missing), NEW, tmp_path, "config.json: no such file; is this the folder")
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(small_run.path, copy.path)
    (copy.checkpoints / "1" / "manifest.json").write_text("{}")
    refused(warm(CONFIG, copy), NEW, tmp_path, "no whole checkpoint")
    counted = RunDirectory(tmp_path / "counted")
    count_and_test(experiment_of(with_model(CONFIG, "popular"), OLD), counted)
    refused(warm(CONFIG, counted), NEW, tmp_path, "popular, is counted and has no parameters")
    own = RunDirectory(tmp_path / "new")
    refused(warm(CONFIG, own), NEW, tmp_path, "is the folder of the new run too")


def test_a_trained_term_is_carried_over(tmp_path):
    config = with_flags(CONFIG, term_items=2, term_dropout=0.5, epochs=1)
    run_dir = RunDirectory(tmp_path / "old")
    train(experiment_of(config, OLD), run_dir, resume=False)
    source = read_source(run_dir.path)
    state, _ = experiment_of(warm(config, run_dir), NEW).warm_state(source)
    weight = np.asarray(state.params["transition_term"]["log_weight"])
    np.testing.assert_array_equal(weight, source.params["transition_term"]["log_weight"])


def test_an_older_run_was_started_from_nothing():
    stored = CONFIG.stored()
    del stored["init_from"]
    assert Config.from_stored(json.loads(json.dumps(stored))) == CONFIG


def test_a_run_that_never_saved_starts_from_the_source_again(small_run, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    config = warm(CONFIG, small_run, epochs=1)
    expected, stopped = RunDirectory(tmp_path / "expected"), RunDirectory(tmp_path / "stopped")
    result = train(experiment_of(config, NEW), expected, resume=False)
    with monkeypatch.context() as patch:
        patch.setattr(loop.RunSaver, "save_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(experiment_of(config, NEW), stopped, resume=False)
    again = train(experiment_of(config, NEW), stopped, resume=True)
    assert dataclasses.replace(config) == stopped.config()
    assert again["NDCG@20"] == result["NDCG@20"] and again["MRR"] == result["MRR"]


def test_a_sweep_that_an_older_version_began_goes_on():
    """Its trials know nothing of the flag."""
    plain = Trial(CONFIG).plain()
    del plain["config"]["init_from"]
    assert Trial.from_plain(plain).config == CONFIG
