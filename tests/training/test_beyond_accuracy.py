"""Lists and ranks from one pass, what is made of them, and agreement with trec_eval."""

import json

import numpy as np
import pytest
import pytrec_eval

import mqsa_jax
from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation import Evaluator
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.beyond_accuracy import NO_VECTORS, Figures
from mqsa_jax.training.counted_runs import (
    count_and_test,
    counted_ranks,
    evaluate_counted,
)
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import restore_best, train
from mqsa_jax.training.results import evaluate
from tests.inference.list_cases import listed_items

USERS, ITEMS, MAX_LEN, CUTOFFS = 60, 40, 6, (1, 3, 10)
FIGURES = Figures(CUTOFFS, beyond_accuracy=True)


def sequences():
    """Histories of 4 to 15 items; some end with an item that occurs nowhere else."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(ITEMS)[: rng.integers(4, 16)].tolist() for _ in range(USERS)]
    for user in range(5):
        rows[user].append(ITEMS + user)
    return rows


HISTORIES = make_histories(range(1, USERS + 1), sequences())


def lists_of(run_dir, protocol):
    maker = mqsa_jax.load_model(run_dir.path).list_maker(45, None, DeviceLayout.of(1))
    return listed_items(maker, HISTORIES, protocol, MAX_LEN, 45)


@pytest.fixture(scope="module", params=["mqsa-ted", "mqsa-ted-plus", "transition"])
def case(request, tmp_path_factory):
    """An experiment, its folder, a function that evaluates it, ranks, lists and item vectors."""
    config = Config(
        model=ModelConfig(dim=8, max_len=MAX_LEN),
        training=TrainingConfig(batch_size=16, epochs=2, lr=0.02),
    )
    config = with_model(config, request.param)
    experiment = Experiment(config, HISTORIES, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path_factory.mktemp("runs") / request.param)
    protocol = Protocol("test")
    if MODELS[request.param].counted:
        count_and_test(experiment, run_dir)
        ranks = counted_ranks(experiment, protocol)
        lists = lists_of(run_dir, protocol)

        def run(*figures):
            return evaluate_counted(experiment, protocol, run_dir, *figures)

        return experiment, run_dir, run, ranks, lists
    train(experiment, run_dir, resume=False)
    state, epoch = restore_best(experiment, run_dir)
    evaluator = experiment.evaluator(protocol)
    ranks = evaluator.ranks(state.eval_params, state.hparams)
    lists = lists_of(run_dir, protocol)

    def run(*figures):
        relations = experiment.relations()
        return evaluate(experiment, state, epoch, protocol, run_dir, relations, *figures)

    return experiment, run_dir, run, ranks, lists


def stored(run_dir):
    return json.loads((run_dir.path / "test_metrics.json").read_text())


def test_trec_eval_agrees(case):
    """HR, NDCG and MRR of the lists of all items, each user's target the one relevant document."""
    experiment, _, run, _, lists = case
    if experiment.spec.counted:
        return  # Many scores tie: a rank halves ties, a list breaks them.
    cutoffs = (1, 5, 10, 20, 45)
    result = run(Figures(cutoffs))
    index = {item: position for position, item in enumerate(HISTORIES.item_ids.tolist())}
    relevant = {str(user): {str(index[row[-1]]): 1} for user, row in enumerate(sequences())}
    listed = {
        str(user): {str(item): float(-place) for place, item in enumerate(row) if item >= 0}
        for user, row in enumerate(lists.tolist())
    }
    measures = {"success.1,5,10,20,45", "ndcg_cut.1,5,10,20,45", "recip_rank"}
    judged = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(listed).values()
    assert len(judged) == USERS
    names = {f"HR@{k}": f"success_{k}" for k in cutoffs}
    names |= {f"NDCG@{k}": f"ndcg_cut_{k}" for k in cutoffs} | {"MRR": "recip_rank"}
    for own, theirs in names.items():
        expected = np.mean([values[theirs] for values in judged])
        assert result[own] == pytest.approx(expected, abs=1e-6), own


def test_one_pass_gives_the_ranks_of_plain_evaluation_and_its_lists(case, monkeypatch):
    experiment, run_dir, run, ranks, lists = case
    plain = run()
    assert "beyond_accuracy" not in plain
    passes = []
    init = Evaluator.ranks_and_lists
    monkeypatch.setattr(
        Evaluator, "ranks_and_lists", lambda *args: passes.append(init(*args)) or passes[-1]
    )
    monkeypatch.setattr(Evaluator, "ranks", None)
    result = run(FIGURES)
    # Scores of two programs may differ by rounding.
    for name in ("HR@5", "HR@20", "NDCG@20", "MRR"):
        assert result[name] == pytest.approx(plain[name], abs=1e-3)
    assert result.keys() - plain.keys() == {"beyond_accuracy", "HR@1", "NDCG@1", "HR@3", "NDCG@3"}
    if not experiment.spec.counted:
        ((own_ranks, own_lists),) = passes
        assert own_lists.shape == (USERS, 10)
        assert (own_ranks == ranks).mean() > 0.9 and (own_lists == lists[:, :10]).mean() > 0.9


def test_figures_agree_with_loops(case):
    experiment, _, run, ranks, lists = case
    values = run(FIGURES)["beyond_accuracy"]
    rows = np.split(HISTORIES.items, HISTORIES.offsets[1:-1])
    num_items = HISTORIES.num_items
    consumers = [
        sum(item in row[:-2][-MAX_LEN:].tolist() for row in rows) for item in range(num_items)
    ]
    for k in CUTOFFS:
        first = [[item for item in row[:k] if item >= 0] for row in lists.tolist()]
        shown = {item for row in first for item in row}
        assert values[f"coverage@{k}"] == pytest.approx(len(shown) / num_items, abs=0.05)
        bits = [
            np.mean([np.log2(USERS / max(consumers[i], 1)) for i in row]) for row in first if row
        ]
        assert values[f"novelty@{k}"] == pytest.approx(np.mean(bits), rel=1e-3)
        arp = [np.mean([consumers[item] for item in row]) for row in first if row]
        assert values[f"popularity@{k}"] == pytest.approx(np.mean(arp), rel=1e-2)
        assert 0 < values[f"gini@{k}"] < 1
        assert (f"diversity@{k}" in values) == (k > 1 and not experiment.spec.counted)
    assert values["users_with_a_list"] == (lists[:, 0] >= 0).sum()
    assert values.get("diversity_left_out") == (NO_VECTORS if experiment.spec.counted else None)


def test_groups_of_users_add_up(case):
    _, _, run, ranks, _ = case
    result = run(FIGURES)
    values = result["beyond_accuracy"]
    trained = {item for row in sequences() for item in row[:-2][-MAX_LEN:]}
    cold = np.array([row[-1] not in trained for row in sequences()])
    assert values["cold_targets"]["users"] == cold.sum() == result["untrained_targets"] >= 5
    assert values["warm_targets"]["users"] == (~cold).sum()
    expected = summarise(ranks[~cold], CUTOFFS)
    assert values["warm_targets"]["NDCG@10"] == pytest.approx(expected["NDCG@10"], abs=1e-3)
    before = np.array([len(row) - 1 for row in sequences()])
    users = {}
    for name, group in values["history_lengths"].items():
        first, _, last = name.partition("-")
        inside = (before >= int(first)) & (before <= int(last or first))
        users[name] = int(inside.sum())
        assert group["users"] == users[name] > 0
        assert group["MRR"] == pytest.approx(summarise(ranks[inside], CUTOFFS)["MRR"], abs=1e-3)
    assert sum(users.values()) == USERS and 2 <= len(users) <= 4


def test_plain_evaluation_keeps_what_is_known_already(case):
    _, run_dir, run, _, _ = case
    run(FIGURES)
    known = stored(run_dir)
    assert "beyond_accuracy" in known
    path = run_dir.path / "test_metrics.json"
    path.write_text(json.dumps(known | {"provenance": {"command": ["first"]}}))
    run(FIGURES)
    assert stored(run_dir)["provenance"] == {"command": ["first"]}
    path.write_text(json.dumps(known | {"MRR": 2.0}))
    run()
    assert stored(run_dir)["MRR"] == known["MRR"] and "beyond_accuracy" not in stored(run_dir)
