"""`eval --cutoffs` and `--beyond-accuracy`: what is printed, written and refused."""

import json
from pathlib import Path

import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.losses.metrics import CUTOFFS

FLAGS = ["--dataset=data.txt", "--dim=8", "--max-len=8", "--batch-size=16", "--devices=1"]
FLAGS += ["--epochs=1", "--run-dir=run"]
PLAIN = {f"{name}@{k}" for k in CUTOFFS for name in ("HR", "NDCG")}


@pytest.fixture(params=["mqsa-ted", "popular"])
def model(request, own_file, capsys) -> str:
    """A run in the folder `run`."""
    assert train_main([*FLAGS, f"--model={request.param}"]) == 0
    capsys.readouterr()
    return request.param


def result(name="test"):
    return json.loads(Path(f"run/{name}_metrics.json").read_text())


def evaluate(*flags):
    assert eval_main(["--run-dir=run", "--devices=1", *flags]) == 0


def test_cutoffs_are_sorted_and_the_usual_ones_stay(model, capsys):
    before = result()
    evaluate("--cutoffs=10,1,10")
    printed = capsys.readouterr().out
    assert " @1 " in printed and " @10 " in printed and "@5" not in printed
    after = result()
    assert after.keys() - before.keys() == {"HR@1", "NDCG@1"}
    assert {name: after[name] for name in (*PLAIN, "MRR")} == {
        name: before[name] for name in (*PLAIN, "MRR")
    }
    assert after["HR@1"] == after["NDCG@1"] <= after["HR@5"]
    # Fewer figures of the same evaluation change nothing.
    evaluate()
    assert result() == after


@pytest.mark.parametrize("split", ["test", "valid"])
def test_lists_and_groups_are_written_and_printed(model, split, capsys):
    evaluate("--beyond-accuracy", "--cutoffs=1,5", f"--split={split}", "--exclude-seen=none")
    printed = capsys.readouterr().out
    values = result(f"{split}_none")["beyond_accuracy"]
    assert values["users_with_a_list"] == 60
    for title in ("coverage of the items", "novelty, bits", "cold targets", "history of "):
        assert title in printed
    assert ("diversity within a list" in printed) == ("diversity@5" in values)
    assert ("diversity@5" in values) == (model == "mqsa-ted")
    # The same two or three items for everybody, or not.
    assert 0 < values["coverage@1"] <= values["coverage@5"] <= 1
    groups = values["history_lengths"].values()
    assert sum(group["users"] for group in groups) == 60
    # Validation and test items of these data never occur in training.
    assert values["cold_targets"]["users"] == 60 and values["warm_targets"] == {"users": 0}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--cutoffs=1,x"], "--cutoffs takes whole numbers with commas between them, got 1,x"),
        (["--cutoffs="], "--cutoffs takes whole numbers with commas between them, got"),
        (["--cutoffs=5,0"], "--cutoffs must be at least 1 each, got 5,0"),
        (["--cutoffs=-3"], "--cutoffs must be at least 1 each, got -3"),
        (["--cutoffs=5,31", "--beyond-accuracy"], "--cutoffs 31 is more than 30 items"),
    ],
)
def test_wrong_cutoffs_are_refused(model, refused, flags, named):
    assert named in refused(eval_main, "--run-dir=run", *flags)
