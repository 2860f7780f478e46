"""A small file of the user's own: defaults by its size, and the term's weight by validation."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import mqsa_jax
from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.training import term_choice

FLAGS = ["--dataset=shop.txt", "--dim=8", "--max-len=10", "--devices=1", "--seed=1", "--epochs=2"]
PLUS = [*FLAGS, "--model=mqsa-ted-plus", "--run-dir=run"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A working directory with 60 users who take 6 of 30 items, none twice."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [[user, *rng.permutation(np.arange(1, 31))[:6]] for user in range(1, 61)]
    text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    (tmp_path / "shop.txt").write_text(text)
    return tmp_path


def stored(name: str) -> dict:
    return json.loads(Path("run", name).read_text())


def test_defaults_depend_on_the_size_and_are_said(capsys):
    assert train_main([*FLAGS, "--run-dir=run"]) == 0
    config = stored("config.json")
    assert (config["batch_size"], config["patience"], config["epochs"]) == (16, 100, 2)
    assert "Defaults for 60 users: batch_size 16, patience 100\n" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--batch-size=30", "--batch_size=30"])
def test_flags_that_are_given_win(flag, capsys):
    assert train_main([*FLAGS, flag, "--patience", "3", "--run-dir=run"]) == 0
    config = stored("config.json")
    assert (config["batch_size"], config["patience"]) == (30, 3)
    assert "Defaults for" not in capsys.readouterr().out


def test_a_sweep_starts_from_the_same_defaults():
    assert sweep_main([*FLAGS, "--alpha=0,1"]) == 0
    with open("sweeps/shop/results.csv", newline="") as file:
        assert [(row["batch_size"], row["patience"]) for row in csv.DictReader(file)] == [
            ("16", "100")
        ] * 2


def test_the_chosen_weight_is_kept_and_used_by_all(capsys):
    assert train_main(PLUS) == 0
    factor = stored("best.json")["term_factor"]
    assert factor in (0, 0.25, 0.5, 1, 2)
    printed = capsys.readouterr().out
    assert f"Weight of the transition term: {12 * factor:g} (validation NDCG@20 of 0: " in printed
    tested = stored("test_metrics.json")
    Path("run/test_metrics.json").unlink()
    assert eval_main(["--run-dir=run"]) == 0
    assert stored("test_metrics.json")["NDCG@20"] == tested["NDCG@20"]
    # The weight has the best validation of all: it stands in the list that was printed.
    assert eval_main(["--run-dir=run", "--split=valid"]) == 0
    shown = printed.split("NDCG@20 of ")[1].split(")")[0].split(", ")
    ndcg = {float(pair.split(": ")[0]): float(pair.split(": ")[1]) for pair in shown}
    assert max(ndcg.values()) == ndcg[12 * factor]
    assert stored("valid_metrics.json")["NDCG@20"] == pytest.approx(ndcg[12 * factor], abs=6e-5)


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_evaluation_and_a_loaded_run_use_the_recorded_weight(factor, monkeypatch):

    monkeypatch.setattr(term_choice, "FACTORS", (factor,))
    assert train_main(PLUS) == 0
    assert stored("best.json")["term_factor"] == factor
    chosen = mqsa_jax.load_model("run").score([[1, 2, 3]])
    record = stored("best.json")
    Path("run/best.json").write_text(json.dumps({**record, "term_factor": 1.0}))
    plain = mqsa_jax.load_model("run").score([[1, 2, 3]])
    Path("run/best.json").write_text(json.dumps({**record, "term_factor": 0.0}))
    encoder = mqsa_jax.load_model("run").score([[1, 2, 3]])
    assert np.isfinite(encoder).all() and not np.allclose(plain, encoder)
    np.testing.assert_allclose(chosen, encoder + factor * (plain - encoder), atol=1e-5)


def test_a_weight_that_is_given_is_not_chosen():
    assert train_main([*PLUS, "--term-weight", "3"]) == 0
    assert stored("config.json")["choose_term_weight"] is False
    assert "term_factor" not in stored("best.json")


def test_more_epochs_choose_again(capsys):
    assert train_main(PLUS) == 0
    assert train_main([*PLUS, "--epochs=3"]) == 0
    assert capsys.readouterr().out.count("Weight of the transition term") == 2
    assert "term_factor" in stored("best.json")


def test_before_training_has_ended_the_configured_weight_is_used_and_said():
    assert train_main(PLUS) == 0
    record = stored("best.json")
    del record["term_factor"]
    Path("run/best.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="has the weight 12, not yet one chosen"):
        mqsa_jax.load_model("run")


def test_a_sweep_chooses_as_a_run_does():
    assert train_main(PLUS) == 0
    assert sweep_main([*PLUS[:-1], "--seeds=1,2", "--sweep-dir=sweep"]) == 0
    with open("sweep/results.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["term_factor"]) == stored("best.json")["term_factor"]
    assert float(row["test_NDCG@20"]) == pytest.approx(stored("test_metrics.json")["NDCG@20"])


def test_the_weights_compared_are_those_that_the_help_names():
    """From 0 to twice the configured weight, which is taken if none is better."""
    assert term_choice.FACTORS[0] == 1
    assert (min(term_choice.FACTORS), max(term_choice.FACTORS)) == (0, 2)
    assert sum(0 < factor < 1 for factor in term_choice.FACTORS) == 2
