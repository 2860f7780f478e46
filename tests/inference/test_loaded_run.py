"""Runs loaded without their data: the scores are those of evaluation, ids are those of the data."""

import dataclasses
import json
import shutil
import zipfile

import jaxtyping
import numpy as np
import optax
import pytest

import mqsa_jax
from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stored_model import COUNTED, RELATIONS, read_counted_model
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.ops import chunk_loop
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training import loop, term_choice
from mqsa_jax.training.counted_runs import (
    count_and_test,
    counted_ranks,
    evaluate_counted,
)
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train
from mqsa_jax.training.results import evaluate
from tests.inference.list_cases import listed_items

USERS, MAX_LEN, FACTOR = 60, 6, 10
NAMES = ("mqsa-ted", "mqsa-ted-plus", "gat", "gru4rec", "transition-paths", "popular")


def sequences():
    """Histories of 4 to 15 of 40 items, ids far apart; some longer than is read."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 16, USERS)
    return [FACTOR * (rng.permutation(40)[:length] + 1) for length in lengths]


HISTORIES = make_histories(range(1, USERS + 1), sequences())


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    model = ModelConfig(model=request.param, dim=8, max_len=MAX_LEN)
    config = Config(model=model, training=TrainingConfig(batch_size=16, epochs=2, lr=0.02))
    experiment = Experiment(with_model(config, request.param), HISTORIES, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path_factory.mktemp("runs") / request.param)
    if MODELS[request.param].counted:
        count_and_test(experiment, run_dir)
    else:
        train(experiment, run_dir, resume=False)
    return experiment, run_dir, mqsa_jax.load_model(run_dir.path)


def test_lists_and_ranks_are_those_of_evaluation(trained):
    experiment, run_dir, run = trained
    protocol, k = Protocol("test"), 7
    if experiment.spec.counted:
        rank_U = counted_ranks(experiment, protocol)
    else:
        state, epoch = restore_best(experiment, run_dir)
        assert epoch == run.epoch
        evaluator = experiment.evaluator(protocol)
        rank_U = evaluator.ranks(state.eval_params, state.hparams)
    maker = run.list_maker(k, None, DeviceLayout.of(1))
    best_UK = listed_items(maker, HISTORIES, protocol, MAX_LEN, k)
    known = [sequence[:-1].tolist() for sequence in sequences()]
    score_UV = run.score(known)
    for user, sequence in enumerate(sequences()):
        score_V = score_UV[user].copy()
        score_V[run.indices(sequence[:-1])] = -np.inf
        own = score_V[run.indices(sequence[-1:])[0]]
        rank = 0.5 + (score_V > own + 1e-6).sum() + (abs(score_V - own) <= 1e-6).sum() / 2
        assert rank == pytest.approx(rank_U[user], abs=1e-6 if rank < 5 else 2)
    for listed, best_K in zip(run.recommend(known, k), best_UK, strict=True):
        scored = [score for _, score in listed]
        assert scored == sorted(scored, reverse=True)
        expected = [FACTOR * (index + 1) for index in best_K.tolist() if index >= 0]
        assert [item for item, _ in listed] == expected or np.ptp(scored) < 1e-6


def test_user_and_item_vectors_make_the_scores(trained, monkeypatch):
    experiment, _, run = trained
    if experiment.spec.counted or experiment.config.term.term_items:
        return
    known = [[10, 30, 20], [400], [50, 60, 70, 80, 90, 100, 110, 120]]
    user_BD = run.user_vectors(known)
    score_BV = user_BD @ np.asarray(run.item_vectors()).T
    np.testing.assert_allclose(run.score(known), score_BV, rtol=1e-4, atol=1e-6)
    assert run.user_vectors([]).shape == (0, 8)
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", 2)
    np.testing.assert_allclose(run.user_vectors(known), user_BD, atol=1e-6)


def test_a_history_is_read_from_its_end(trained):
    _, _, run = trained
    long = [30, 50, 70, 90, 110, 130, 150, 170]
    np.testing.assert_allclose(
        run.score([long])[0], run.score([[20, 40, *long[-MAX_LEN:]]])[0], atol=1e-6
    )
    # However many are scored at a time.
    alone = run.score([[10, 20]])[0]
    np.testing.assert_allclose(run.score([[30], [10, 20], [40, 50, 60]])[1], alone, atol=1e-6)


def test_seen_items_and_the_end_of_lists(trained):
    _, _, run = trained
    everything = (FACTOR * np.arange(1, 40)).tolist()
    (listed,) = run.recommend([everything], 5)
    assert [item for item, _ in listed] in ([400], [])
    (again,) = run.recommend([everything], 50, exclude_seen="none")
    assert len(again) <= 40 and len({item for item, _ in again}) == len(again)


def test_unknown_items_are_named_or_skipped(trained):
    _, _, run = trained
    with pytest.raises(ValueError, match=r"items \[15, 999\] are not among the 40"):
        run.score([[10, 15, 999]])
    skipped = run.score([[10, 15, 20, 999]], unknown="skip")
    np.testing.assert_array_equal(skipped, run.score([[10, 20]]))
    for history in ([], [15]):
        with pytest.raises(ValueError, match="holds no item"):
            run.score([history], unknown="skip")
    with pytest.raises(ValueError, match="must be integers, got float64"):
        run.score([np.array([10.0, 20.0])])
    # Two users of one item each, or one history that was not put into a list?
    with pytest.raises(ValueError, match="a history must be a sequence of item ids, got array.10"):
        run.score([np.array(10), np.array(20)])
    with pytest.raises(ValueError, match="a history must be a sequence of item ids"):
        run.score([np.array([[10, 20], [30, 40]])])
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="unknown must be one of"):
            run.score([[10, 15]], unknown="ignore")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert run.score([]).shape == (0, 40) and run.recommend([], 3) == []
    np.testing.assert_array_equal(run.score([np.array([10, 20], np.uint64)]), run.score([[10, 20]]))


def test_what_a_model_needs_beside_its_parameters_is_verified(trained, tmp_path):
    experiment, run_dir, _ = trained
    name = COUNTED if experiment.spec.counted else RELATIONS
    copy = tmp_path / "copy"
    shutil.copytree(run_dir.path, copy)
    if not (copy / name).exists():
        return
    with zipfile.ZipFile(copy / name) as parts:
        largest = max(parts.infolist(), key=lambda part: part.compress_size)
    content = bytearray((copy / name).read_bytes())
    # In what is stored, for a part's header has bytes that nothing depends on.
    content[largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged"):
        mqsa_jax.load_model(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        mqsa_jax.load_model(copy)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A run of the transition counts."""
    config = with_model(Config(model=ModelConfig(max_len=MAX_LEN)), "transition")
    experiment = Experiment(config, HISTORIES, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path_factory.mktemp("runs") / "counted")
    count_and_test(experiment, run_dir)
    return experiment, run_dir


@pytest.mark.parametrize("change", ["a bit", "cut"])
def test_a_damaged_file_is_named_whichever_byte_it_is(counted, change):
    """Which error zip or NumPy raises depends on the byte; some, as of dates, mean nothing."""
    _, run_dir = counted
    file = run_dir.path / COUNTED
    content, (sound, _) = file.read_bytes(), read_counted_model(run_dir)
    refused = 0
    try:
        for index in range(0, len(content), max(len(content) // 500, 1)):
            damaged = bytearray(content)
            if change == "cut":
                del damaged[index:]
            else:
                damaged[index] ^= 1 << index % 8
            file.write_bytes(damaged)
            try:
                model, _ = read_counted_model(run_dir)
            except UserError as error:
                assert str(file) in str(error)
                refused += 1
            else:
                assert (model.matrix != sound.matrix).nnz == 0
    finally:
        file.write_bytes(content)
    assert refused > 300


@pytest.mark.parametrize(("name", "value"), [("max_len", 3), ("model", "popular"), ("seed", 7)])
def test_an_edited_configuration_of_a_counted_run_is_refused(counted, tmp_path, name, value):
    experiment, run_dir = counted
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(run_dir.path, copy.path)
    stored = json.loads(copy.config_file.read_text())
    copy.config_file.write_text(json.dumps({**stored, name: value}))
    with pytest.raises(UserError, match=rf"config.json: not the configuration of .*\({name} "):
        mqsa_jax.load_model(copy.path)
    edited = dataclasses.replace(experiment, config=copy.config())
    before = (copy.path / "test_metrics.json").read_text()
    with pytest.raises(UserError, match=rf"config.json: not the configuration of .*\({name} "):
        evaluate_counted(edited, Protocol("test"), copy)
    assert (copy.path / "test_metrics.json").read_text() == before


def test_a_run_that_was_stopped_is_loaded_without_its_data(tmp_path):
    """Before the end of training, and so before any result was written."""
    config = Config(
        model=ModelConfig(model="mqsa-ted-plus", dim=8, max_len=MAX_LEN),
        training=TrainingConfig(batch_size=16, epochs=1),
    )
    experiment = Experiment(with_model(config, "mqsa-ted-plus"), HISTORIES, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path / "run")
    train(experiment, run_dir, resume=False)
    expected = mqsa_jax.load_model(run_dir.path).score([[10, 20]])
    stopped = RunDirectory(tmp_path / "stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, stopped, resume=False)
    assert not list(stopped.path.glob("*_metrics.json"))
    np.testing.assert_array_equal(mqsa_jax.load_model(stopped.path).score([[10, 20]]), expected)


def _interrupt(*arguments):
    raise KeyboardInterrupt


def test_a_damaged_best_checkpoint_is_not_loaded(trained, tmp_path):
    experiment, run_dir, run = trained
    if experiment.spec.counted:
        return
    copy = tmp_path / "copy"
    shutil.copytree(run_dir.path, copy)
    files = [path for path in (copy / "checkpoints" / str(run.epoch)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        mqsa_jax.load_model(copy)


def test_the_weight_of_the_term_that_validation_chose_is_kept(tmp_path, monkeypatch):
    """And a run of another optimiser than the default is evaluated like any other."""
    monkeypatch.setattr(term_choice, "FACTORS", (3.0,))
    model = ModelConfig(model="mqsa-ted-plus", dim=8, max_len=MAX_LEN)
    config = with_model(Config(model=model), "mqsa-ted-plus", choose_term_weight=True)
    training = TrainingConfig(batch_size=16, epochs=1, lr=0.02, ema_decay=0.9)
    config = dataclasses.replace(config, training=training)
    experiment = Experiment(config, HISTORIES, DeviceLayout.of(1), optimizer=optax.sgd(0.1))
    run_dir = RunDirectory(tmp_path / "run")
    result = train(experiment, run_dir, resume=False)
    run = mqsa_jax.load_model(run_dir.path)
    weight = float(np.exp(run.params["transition_term"]["log_weight"][0]))
    assert weight == pytest.approx(3 * config.term.term_weight, rel=1e-5)
    state, epoch = restore_best(experiment, run_dir)
    again = evaluate(experiment, state, epoch, Protocol("test"), run_dir)
    assert again["NDCG@20"] == result["NDCG@20"] and again["MRR"] == result["MRR"]
    known = [sequence[:-1].tolist() for sequence in sequences()]
    target_U = [sequence[-1] for sequence in sequences()]
    listed_UK = np.array([[item for item, _ in each] for each in run.recommend(known, 20)])
    hits = (listed_UK == np.array(target_U)[:, None]).any(1)
    assert hits.mean() == pytest.approx(result["HR@20"])
