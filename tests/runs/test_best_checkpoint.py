"""The best epoch's checkpoint is found, checked against the run's files, and never replaced."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.runs.best_checkpoint import best_checkpoint, resume_point
from mqsa_jax.runs.checkpoints import Checkpoints, Snapshot
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.state import init_state

CONFIG = Config(dataset="data.txt", model=ModelConfig(dim=4, max_len=3))
HISTORIES = make_histories([1, 2], [[5, 8, 13, 21], [34, 8, 5]])


def blank(step: int = 0):
    """A state that is told by its step."""
    recommender = Recommender.of(CONFIG, HISTORIES.num_items)
    shapes = jax.eval_shape(lambda: init_state(recommender, HParams.of(CONFIG), 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return DeviceLayout.of(1).replicate(zeros.replace(step=np.int32(step)))


def history(*values: float) -> list[dict]:
    return [{"epoch": e, "valid_NDCG@20": value} for e, value in enumerate(values, 1)]


def make_run(folder: Path, *values: float, config: Config = CONFIG) -> RunDirectory:
    """A run whose epochs have these values in validation, with every checkpoint."""
    run = RunDirectory(folder)
    checkpoints = Checkpoints(run.checkpoints)
    run.start(config, HISTORIES.fingerprint())
    best = 0
    for epoch in range(1, len(values) + 1):
        lines = history(*values[:epoch])
        snapshot = Snapshot(lines, config.stored(), 1, HISTORIES.fingerprint())
        checkpoints.save(epoch, blank(epoch), HISTORIES, snapshot)
        checkpoints.wait()
        best = int(np.argmax(values[:epoch])) + 1
        run.record_best(best, checkpoints.manifest_digest(best))
    run.write_history(lines)
    checkpoints.close()
    (run.path / "test_metrics.json").write_text('{"MRR": 1}')
    (run.path / "ranks.npz").write_bytes(b"ranks")
    return run


@pytest.fixture(scope="module")
def rising(tmp_path_factory) -> Path:
    """Its latest epoch, 3, is the best; not to be changed."""
    return make_run(tmp_path_factory.mktemp("rising") / "run", 0.1, 0.2, 0.3).path


@pytest.fixture(scope="module")
def falling(tmp_path_factory) -> Path:
    """Its second of 3 epochs is the best; not to be changed."""
    return make_run(tmp_path_factory.mktemp("falling") / "run", 0.1, 0.3, 0.2).path


@pytest.fixture
def copy(tmp_path):
    """A function that copies a run, to do harm to."""
    return lambda run: RunDirectory(shutil.copytree(run, tmp_path / "run"))


def flip_a_byte(run: RunDirectory, epoch: int):
    flip_a_byte_of(run.checkpoints / str(epoch))


def flip_a_byte_of(checkpoint: Path):
    file = max((checkpoint / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def delete(run: RunDirectory, epoch: int):
    shutil.rmtree(run.checkpoints / str(epoch))


def leave_unfinished(run: RunDirectory, epoch: int):
    (run.checkpoints / str(epoch) / "manifest.json").unlink()


def exchange(run: RunDirectory, epoch: int):
    """A whole checkpoint, but of another epoch."""
    delete(run, epoch)
    shutil.copytree(run.checkpoints / "1", run.checkpoints / str(epoch))


HARM = [flip_a_byte, delete, leave_unfinished, exchange]


def files(run: RunDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def refusal(run: RunDirectory) -> str:
    """What `best_checkpoint` and eval.py say, who must change nothing."""
    before = files(run)
    with pytest.raises(UserError) as caught:
        best_checkpoint(run)
    assert files(run) == before and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_best_checkpoint_needs_no_data(rising, falling):
    for folder, epoch in ((rising, 3), (falling, 2)):
        best = best_checkpoint(RunDirectory(folder))
        assert (best.epoch, best.config) == (epoch, CONFIG)
        assert best.item_ids.tolist() == HISTORIES.item_ids.tolist()
        assert best.item_ids.dtype == np.int64
        assert best.data_fingerprint == HISTORIES.fingerprint()
        assert int(best.restore_plain()["step"]) == epoch


@pytest.mark.parametrize("harm", HARM)
def test_no_other_epoch_takes_the_place_of_a_best_one_that_is_also_the_latest(copy, rising, harm):
    run = copy(rising)
    harm(run, 3)
    message = refusal(run)
    assert "checkpoints/3" in message and "epoch 3 is the best" in message and "train" in message


@pytest.mark.parametrize("harm", HARM)
def test_nor_of_one_before_the_latest(copy, falling, harm):
    run = copy(falling)
    harm(run, 2)
    message = refusal(run)
    assert "checkpoints/2" in message and "epoch 2 is the best" in message


def test_eval_refuses_and_overwrites_nothing(copy, rising, tmp_path, monkeypatch, capsys):
    run = copy(rising)
    monkeypatch.chdir(tmp_path)
    lines = zip(HISTORIES.user_ids, ([5, 8, 13, 21], [34, 8, 5]), strict=True)
    Path("data.txt").write_text("".join(f"{u} {' '.join(map(str, i))}\n" for u, i in lines))
    flip_a_byte(run, 3)
    before = files(run)
    assert eval_main(["--run-dir", str(run.path), "--devices=1"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "epoch 3 is the best" in message
    assert files(run) == before


def test_a_later_epoch_that_is_damaged_hinders_no_evaluation_of_the_best(copy, falling):
    run = copy(falling)
    flip_a_byte(run, 3)
    assert best_checkpoint(run).epoch == 2


def test_without_a_record_the_history_tells(copy, rising):
    """As in runs that are older than the record."""
    run = copy(rising)
    (run.path / "best.json").unlink()
    assert best_checkpoint(run).epoch == 3
    flip_a_byte(run, 3)
    assert "epoch 3 is the best" in refusal(run)


def test_a_crash_before_the_record_was_written(copy, rising):
    """The checkpoint of epoch 3 was saved; the files of the run tell of epoch 2."""
    run = copy(rising)
    run.record_best(2, "")
    run.write_history(history(0.1, 0.2))
    assert best_checkpoint(run).epoch == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_heads": 2}, "num_heads 2, trained with 1"),
        ({"window": 1, "alpha": 0.25}, "window 1, trained with 3, alpha 0.25, trained with 0.5"),
        ({"dim": 8}, "dim 8, trained with 4"),
        ({"precision": "bfloat16"}, "precision bfloat16, trained with float32"),
        ({"term_items": 4}, "term_items 4, trained with 0"),
        ({"model": "gru4rec-ted"}, "model gru4rec-ted, trained with mqsa-ted"),
        ({"seed": 7}, "seed 7, trained with 2023"),
    ],
)
def test_an_edited_configuration_is_refused_by_its_names(copy, rising, changes, named):
    run = copy(rising)
    values = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps(values | changes))
    assert f"config.json: not the configuration of {run.checkpoints / '3'} ({named}" in refusal(run)


def test_flags_of_the_machine_and_of_the_length_may_differ(copy, rising):
    run = copy(rising)
    values = json.loads(run.config_file.read_text())
    changes = {"devices": 4, "epochs": 9, "dataset": "/moved/data.txt", "data_dir": "x"}
    run.config_file.write_text(json.dumps(values | changes))
    assert best_checkpoint(run).config.dataset == "/moved/data.txt"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (history(0.9, 0.2, 0.3), "metrics.jsonl:1: valid_NDCG@20 differ"),
        (history(0.1, 0.2, 0.31), "metrics.jsonl:3: valid_NDCG@20 differ"),
        ([{**line, "loss": 1.0} for line in history(0.1, 0.2, 0.3)], "metrics.jsonl:1: loss"),
        (history(0.1, 0.2, 0.3, 0.4), "checkpoints/4 is missing, and epoch 4 is the best"),
    ],
)
def test_an_edited_history_is_refused(copy, rising, lines, named):
    run = copy(rising)
    run.write_history(lines)
    assert named in refusal(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "best.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"epoch": "x"}'])
def test_a_broken_file_is_refused_by_name(copy, rising, name, content):
    run = copy(rising)
    (run.path / name).write_text(content)
    assert name in refusal(run)


def resumed(run: RunDirectory) -> int:
    """The epoch; of a checkpoint within one, its step as a negative number; 0 to start afresh."""
    epochs, steps = Checkpoints(run.checkpoints), Checkpoints(run.step_checkpoints)
    try:
        point = resume_point(run, epochs, steps)
        if point is None:
            return 0
        return -point.number if point.snapshot.epoch_steps else point.number
    finally:
        epochs.close()
        steps.close()


def test_training_goes_on_from_the_latest_epoch(rising, falling):
    assert resumed(RunDirectory(rising)) == resumed(RunDirectory(falling)) == 3


def save_within(run: RunDirectory, step: int, lines: list[dict]):
    """A checkpoint within the epoch after those lines, one step from its beginning."""
    losses = {name: [0.1] for name in ("loss", "loss_rec", "loss_kd")}
    snapshot = Snapshot(lines, CONFIG.stored(), 1, HISTORIES.fingerprint(), epoch_losses=losses)
    checkpoints = Checkpoints(run.step_checkpoints)
    checkpoints.save(step, blank(step), HISTORIES, snapshot)
    checkpoints.close()


def test_training_goes_on_within_an_epoch(copy, rising):
    run = copy(rising)
    save_within(run, 31, history(0.1, 0.2, 0.3))
    assert resumed(run) == -31


@pytest.mark.filterwarnings("default:.*goes on from epoch 3:UserWarning")
def test_a_damaged_checkpoint_within_an_epoch_is_passed_over(copy, rising):
    run = copy(rising)
    save_within(run, 31, history(0.1, 0.2, 0.3))
    flip_a_byte_of(run.step_checkpoints / "31")
    with pytest.warns(UserWarning, match="step_checkpoints/31/.* is damaged"):
        assert resumed(run) == 3


def test_a_checkpoint_within_an_epoch_that_has_ended_is_not_gone_back_to(copy, rising):
    run = copy(rising)
    save_within(run, 21, history(0.1, 0.2))
    assert resumed(run) == 3


def test_training_goes_on_within_the_first_epoch(tmp_path):
    run = RunDirectory(tmp_path)
    save_within(run, 1, [])
    assert resumed(run) == -1


@pytest.mark.parametrize("harm", HARM[:3])
def test_training_goes_back_and_says_so(copy, rising, harm):
    run = copy(rising)
    harm(run, 3)
    if harm is delete:  # Nothing is there to be passed over.
        assert resumed(run) == 2
    else:
        with pytest.warns(UserWarning, match=r"checkpoints/3.*training goes on from epoch 2"):
            assert resumed(run) == 2


def test_training_goes_back_before_a_best_epoch_that_is_lost(copy, falling):
    run = copy(falling)
    flip_a_byte(run, 2)
    with pytest.warns(UserWarning, match=r"checkpoints/2/.* is damaged: .* from epoch 1"):
        assert resumed(run) == 1


def test_training_starts_afresh_only_where_nothing_was_ever_saved(copy, rising):
    run = copy(rising)
    for epoch in (1, 2, 3):
        flip_a_byte(run, epoch)
    with pytest.raises(UserError, match="no earlier epoch to go on from"):
        resumed(run)
    delete(run, 2)
    delete(run, 3)
    leave_unfinished(run, 1)
    with pytest.warns(UserWarning, match="checkpoints/1 is unfinished.*starts afresh"):
        assert resumed(run) == 0


def test_a_checkpoint_of_an_older_version_is_of_the_same_configuration(tmp_path):
    """Its configuration lacks a version and every flag that is younger than the first runs."""
    old = json.loads((Path(__file__).parents[2] / OLD_RUN / "config.json").read_text())
    assert "model" not in old and "format_version" not in old
    run = RunDirectory(tmp_path)
    run.path.joinpath("config.json").write_text(json.dumps(old))
    run.path.joinpath("config.json").write_text(json.dumps({**old, "dim": 4, "max_len": 3}))
    checkpoints = Checkpoints(run.checkpoints)
    snapshot = Snapshot(history(0.1), {**old, "dim": 4, "max_len": 3}, 1, "fingerprint")
    checkpoints.save(1, blank(1), HISTORIES, snapshot)
    checkpoints.close()
    best = best_checkpoint(run)
    assert best.epoch == 1 and best.config == run.config()
    assert int(best.restore_plain()["step"]) == 1


OLD_RUN = "docs/results/benchmarks/beauty-2023-tau0.1"
