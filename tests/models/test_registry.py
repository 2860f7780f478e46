"""Every model that `--model` selects: its settings, and that it trains or counts."""

import dataclasses
import typing

import jax
import numpy as np
import pytest

from mqsa_jax.config import Config, ModelConfig, ModelName, TrainingConfig
from mqsa_jax.data import splits
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.synthetic import synthetic_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.lists import CountedLists, TrainedLists
from mqsa_jax.models.counted import count_model
from mqsa_jax.models.registry import MODELS, check_model_settings, with_model
from mqsa_jax.ops import chunk_loop
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.counted_runs import count_and_test, counted_ranks
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from mqsa_jax.training.state import run_key
from tests.inference.list_cases import listed_items

NAMES = typing.get_args(ModelName)
TRAINED = [name for name in NAMES if not MODELS[name].counted]
COUNTED = [name for name in NAMES if name not in TRAINED]
USERS = 300


@pytest.fixture(scope="module")
def histories():
    whole = synthetic_histories()
    sequences = np.split(whole.items[: whole.offsets[USERS]], whole.offsets[1:USERS])
    return make_histories(range(USERS), sequences)


def experiment_of(name, histories, **training):
    model = ModelConfig(model=name, dim=16, max_len=12)
    config = Config(model=model, training=TrainingConfig(batch_size=100, **training))
    return Experiment(with_model(config, config.model.model), histories, DeviceLayout.of(1))


@pytest.mark.parametrize("name", TRAINED)
def test_trains_for_a_few_steps(name, histories):
    experiment = experiment_of(name, histories, lr=0.01)
    start, relations = experiment.initial_state(), experiment.relations()
    source = experiment.batch_source()
    program = compile_epoch(experiment.recommender, experiment.layout)
    state, losses = start, []
    for epoch in range(4):
        for batches in source.batches(epoch, 10, source.capacity()):
            state, loss = program(state, batches, run_key(1), relations)
            losses.append(loss.loss_rec.mean())
    assert np.isfinite(losses).all()
    # Chance is the logarithm of the number of items, and one; so is the first epoch's loss, about.
    assert losses[-1] < losses[0] - 0.05
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, state.params)
    still = {
        jax.tree_util.keystr(path) for path, did in jax.tree.leaves_with_path(moved) if not did
    }
    # A branch without a share in the user vector has nothing but its decay.
    idle = {1.0: "['long']", 0.0: "['short']"}.get(experiment.config.model.alpha)
    # The weights of the transition term too, where the encoder trains alone.
    resting = tuple(filter(None, (idle, "['transition_term']")))
    assert not {path for path in still if not path.startswith(resting)}
    evaluator = experiment.evaluator(Protocol("valid"), relations)
    ranks = evaluator.ranks(state.params, state.hparams)
    assert ((ranks >= 1) & (ranks <= histories.num_items)).all()
    model = (experiment.recommender.in_float32(), state.params, state.hparams, relations)
    maker = TrainedLists(*model, 20, layout=experiment.layout)
    top_UK = listed_items(maker, histories, Protocol("valid"), experiment.config.model.max_len, 20)
    assert_lists_agree(top_UK, ranks, histories)


def assert_lists_agree(top_UK, ranks, histories):
    """The target is among the best items if and only if its rank says so."""
    target = splits.targets(histories, "valid")
    listed = (top_UK == target[:, None]).any(1)
    assert listed[ranks <= top_UK.shape[1] / 2].all()
    # A rank beyond may be that of a tie, any of which may be listed: such ranks lie far behind.
    assert not listed[(ranks > top_UK.shape[1]) & (ranks < 2 * top_UK.shape[1])].any()


def counted_lists(experiment, protocol, k):
    config, histories = experiment.config, experiment.histories
    maker = CountedLists(count_model(config, histories), config.model.max_len, k)
    return listed_items(maker, histories, protocol, config.model.max_len, k)


@pytest.mark.parametrize("name", COUNTED)
def test_counts(name, histories, tmp_path):
    experiment = experiment_of(name, histories)
    run_dir = RunDirectory(tmp_path)
    result = count_and_test(experiment, run_dir)
    assert (tmp_path / "valid_metrics.json").exists()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert run_dir.config().model.model == name
    with np.load(tmp_path / "ranks.npz") as stored:
        assert stored["test"].mean() < histories.num_items / 2
    assert result["NDCG@20"] > 0
    top_UK = counted_lists(experiment, Protocol("valid"), 20)
    assert_lists_agree(top_UK, counted_ranks(experiment, Protocol("valid")), histories)


@pytest.mark.parametrize("chunk", [3, 256])
def test_counting_by_hand(monkeypatch, chunk):
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", chunk)
    # Training sees [1 2], [1 2], [1 3], [4 1]; the newest items before the targets are 3, 4, 4, 2.
    sequences = [[1, 2, 3, 2], [1, 2, 4, 3], [1, 3, 4, 1], [4, 1, 2, 3]]
    histories = make_histories(range(1, 5), [np.array(each) for each in sequences])

    def ranks(name):
        return counted_ranks(experiment_of(name, histories), Protocol("test", "none")).tolist()

    # 1 occurs four times, 2 twice, 3 and 4 once.
    assert ranks("popular") == [2, 3.5, 1, 3.5]
    # From 3 and from 2 nothing leads anywhere: all four tie. From 4 only to 1.
    assert ranks("transition") == [2.5, 3, 1, 2.5]
    assert ranks("transition-rows") == ranks("transition")

    def lists(name):
        experiment = experiment_of(name, histories)
        return counted_lists(experiment, Protocol("test", "none"), 2).tolist()

    # Nothing is recommended by a score of 0, and of equals the smaller index comes first.
    assert lists("popular") == [[0, 1]] * 4
    assert lists("transition") == [[-1, -1], [0, -1], [0, -1], [-1, -1]]


def test_a_model_trains_to_the_end_and_is_resumed(histories, tmp_path):
    experiment = experiment_of("mqsa-ted-plus", histories, epochs=2)
    run_dir = RunDirectory(tmp_path)
    result = train(experiment, run_dir, resume=False)
    assert train(experiment, run_dir, resume=True)["NDCG@20"] == result["NDCG@20"]


def test_the_term_is_trained_if_asked(histories):
    """At a share of the positions; then its weights move and so does all else."""
    alone = experiment_of("mqsa-ted-plus", histories)
    term = dataclasses.replace(alone.config.term, term_dropout=0.25)
    through = dataclasses.replace(alone, config=dataclasses.replace(alone.config, term=term))
    weights = {}
    for experiment in (alone, through):
        state, relations = experiment.initial_state(), experiment.relations()
        source = experiment.batch_source()
        (batches,) = source.batches(0, 10, source.capacity())
        program = compile_epoch(experiment.recommender, experiment.layout)
        state, losses = program(state, batches, run_key(1), relations)
        assert np.isfinite(losses.loss).all()
        weights[experiment] = np.exp(state.params["transition_term"]["log_weight"])
    initial = alone.config.term.term_weight * alone.config.term.term_decay ** np.arange(4)
    np.testing.assert_allclose(weights[alone], initial, rtol=1e-5)
    assert (np.abs(weights[through] / initial - 1) > 1e-3).all()


def test_a_model_fixes_its_flags():
    config = with_model(Config(), "sasrec")
    assert (config.model.alpha, config.objective.lambda_kd) == (1.0, 0.0)
    check_model_settings(config)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, alpha=0.5))
    with pytest.raises(UserError, match="model sasrec fixes alpha at 1.0, got 0.5"):
        check_model_settings(other)


def test_the_five_rows_of_attention_share_a_program(histories):
    names = ("mqsa-ted", "mqsa", "sasrec", "sasrec-ted", "l-query")
    assert len({experiment_of(name, histories).recommender for name in names}) == 1


def test_the_term_alone_ranks_as_it_does_when_counted(histories):
    """With item vectors of 0 and all neighbours kept: two paths to the same scores."""
    counted = experiment_of("transition-paths", histories)
    term = dataclasses.replace(counted.config.term, term_neighbours=histories.num_items)
    plus = experiment_of("mqsa-ted-plus", histories)
    plus = dataclasses.replace(plus, config=dataclasses.replace(plus.config, term=term))
    state = plus.initial_state()
    params = {**state.params, "item_embedding": 0 * state.params["item_embedding"]}
    ranks = plus.evaluator(Protocol("test")).ranks(params, state.hparams)
    expected = counted_ranks(counted, Protocol("test"))
    # Sums in another order may part what ties, or tie what is apart.
    assert (np.abs(ranks - expected) <= 0.5).mean() > 0.97
    assert np.corrcoef(ranks, expected)[0, 1] > 0.999
