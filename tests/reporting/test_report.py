"""A report of a few runs made for the purpose: numbers of the page, and what is kept."""

import json

import numpy as np
import pytest

from mqsa_jax.reporting.analysis import comparisons, reference_pairs
from mqsa_jax.reporting.build_report import read_study
from mqsa_jax.reporting.charts import families
from mqsa_jax.reporting.configurations import Group, group_runs
from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.reproduction import command
from mqsa_jax.reporting.results import load_run, load_runs
from mqsa_jax.reporting.sweeps import sensitivities
from mqsa_jax.reporting.tables import _corrected, published_rows
from mqsa_jax.runs.files import write_json
from tests.reporting.conftest import USERS


def test_numbers_of_the_page(tmp_path, four_runs, report):
    page = report()
    # NDCG is 1, 1 / log2(4) and 1 / log2(8); of 1 and 0.5 the standard deviation is 0.3536.
    assert "| MQSA-TED | 2 seeds | 1.0000 ± 0.0000 | 0.7500 ± 0.3536 |" in page
    assert "| SASRec | 1 seed | 1.0000 | 0.5000 |" in page
    assert "| Most popular | counted | 0.0000 | 0.0000 |" in page
    # Against the one seed in common, and what is not trained against both.
    assert "| SASRec against MQSA-TED | 1 | 40 | -0.5000 | -0.5000 to -0.5000 | 0.0004 |" in page
    assert "| Most popular against MQSA-TED | 1, 2 | 40 | -0.4167 |" in page  # 1/3 less 3/4
    assert "| SASRec against MQSA-TED | 1 | 1.0000 | +0.0000 | 0.5000 | -0.5000 |" in page  # seeds
    # Half of the users have two items of training, 4 5 that are asked for again: 20 times seen.
    assert (
        "| model | 0 (0 users) | 1 (0 users) | 2 (0 users) | 3-5 (0 users) | >5 (40 users)" in page
    )
    assert "| Most popular |  |  |  |  | 0.3333 |" in page
    assert (
        "| full-1 | `python train.py --model mqsa-ted --seed 1` | abc1234 | a machine | A |" in page
    )
    assert "not trained" in page and "secret" not in page
    assert "## Recommended lists" not in page and "## Left out" not in page
    figures = sorted(path.name for path in (tmp_path / "docs/results/figures").iterdir())
    assert figures == ["breakdown_log.png", "learning_log.png"]


def test_page_from_kept_files_alone(tmp_path, four_runs, log, report):
    page = report()
    log.unlink()
    for path in tmp_path.rglob("ranks.npz"):
        path.unlink()
    assert build_page(read_study(tmp_path / "runs", tmp_path / "docs")) == page
    assert report() == page


def test_distillation_is_compared_with_the_same_encoder(four_runs, add_run, report):
    add_run("sasrec-ted-1", "sasrec-ted", 1, [1] * 30 + [7] * 10)
    add_run("fmlp-ted-1", "fmlp-ted", 1, [1] * USERS)  # fmlp is missing
    page = report()
    # (30 * 1 + 10 / 3) / 40 less 1 / 2.
    assert "| SASRec + TED against SASRec | 1 | 40 | +0.3333 |" in page
    assert "against FMLP" not in page and "against MQSA |" not in page


def test_targets_never_recommended_rank_last_in_comparisons(tmp_path, add_run):
    """Differences of infinite ranks would be NaN, or no difference at all."""
    add_run("full-1", "mqsa-ted", 1, [1] * 20 + [np.inf] * 20)
    add_run("sasrec-1", "sasrec", 1, [2] * 20 + [np.inf] * 20)
    add_run("gat-1", "gat", 1, [1] * 20 + [4] * 20)
    runs, _ = load_runs(tmp_path / "runs")
    ranks = {
        run.name: (np.arange(USERS), np.load(run.folder / "ranks.npz")["test"]) for run in runs
    }
    found = comparisons(reference_pairs(group_runs(runs)), ranks)
    assert found["sasrec-1"]["better"] == 0.25  # 20 ranked lower, 20 ties
    assert found["gat-1"]["better"] == 0.75  # 20 ties, 20 ranked before the missing ones
    assert all(np.isfinite(entry[p]) for entry in found.values() for p in ("p_rank", "p_mean"))


def test_models_that_rank_alike_are_one_comparison():
    equal = {"difference": -0.1, "p_ndcg": 0.02, "p_rank": 0.5}
    other = {"difference": 0.2, "p_ndcg": 0.03, "p_rank": 0.5}
    assert _corrected([equal, other, equal], "p_ndcg") == [0.04, 0.04, 0.04]


def test_a_command_names_what_is_no_default_of_today(add_run):
    """Even if it was the default when the run was made."""
    (run,) = load_run(add_run("old", "mqsa-ted", 1, [1] * USERS, tau=0.05, num_heads=1))
    assert command(run) == "`python train.py --model mqsa-ted --seed 1 --tau 0.05`"


def test_runs_without_ranks_are_named(tmp_path, four_runs, add_run, report):
    add_run("mqsa-1", "mqsa", 1, [2] * USERS, ranks=False)
    named = "no significance test and breakdown, as `ranks.npz` or the data set is missing: "
    assert f"{named}`mqsa-1`." in report()
    # Lists alone do not make up for them.
    shown = np.zeros((USERS, 20), np.int32)
    np.savez_compressed(tmp_path / "runs/mqsa-1/recommendations.npz", test_top20=shown)
    page = report()
    assert f"{named}`mqsa-1`." in page
    assert "| MQSA | 1 seed |" in page and "| MQSA against MQSA-TED | 1 | 40 |" not in page


def test_a_run_made_anew_leaves_the_kept_analysis(tmp_path, four_runs, report):
    report()
    folder = tmp_path / "runs" / "sasrec-1"
    (folder / "ranks.npz").unlink()
    test = json.loads((folder / "test_metrics.json").read_text())
    write_json(folder / "test_metrics.json", {**test, "NDCG@20": 0.25})
    assert "`ranks.npz` or the data set is missing: `sasrec-1`." in report()


def test_recommended_lists(tmp_path, four_runs, report):
    shown = np.tile(np.arange(2, dtype=np.int32), (USERS, 1))
    np.savez_compressed(tmp_path / "runs/full-1/recommendations.npz", test_top20=shown)
    # Items 1 and 2 of 4, shown always, and 20 times in training each.
    # Lists of another length are left out.
    np.savez_compressed(tmp_path / "runs/full-2/recommendations.npz", test_top3=shown)
    page = report()
    assert "| MQSA-TED | 1 | 0.500 | 2.00 | 20.0 | 0.500 | 100.0% |" in page
    assert "no list statistics" in page and ": `full-2`, `sasrec-1`, `popular`." in page


def test_ablation(add_run, report):
    for seed, less in ((1, 0.01), (2, 0.03)):
        folder = add_run(f"plus-{seed}", "mqsa-ted-plus", seed, [1] * USERS)
        whole = {"name": "the recipe", "flags": {}, "HR@20": 0.5, "NDCG@20": 0.25}
        other = {"name": "no term", "flags": {"term_items": 0}, "HR@20": 0.5}
        write_json(folder / "ablation.json", [whole, {**other, "NDCG@20": 0.25 - less}])
    add_run("narrow-1", "mqsa-ted-plus", 1, [1] * USERS, dim=8)
    page = report()
    assert "| `--dim 8` | 1 | 0.3000 | 1.0000 | 1.0000 |" in page
    assert "| the recipe |  | 2 | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 |  |" in page
    row = (
        "| no term | `--term-items 0` | 2 | 0.5000 ± 0.0000 | 0.2300 ± 0.0141 | -0.0200 ± 0.0100 |"
    )
    assert row in page


def test_beside_published_figures(add_run):
    def group(model, **figures):
        (run,) = load_run(add_run(model, model, 1, [1] * USERS))
        run.test.update(figures)
        return Group([run], "")

    full = group("mqsa-ted", **{"HR@5": 0.0752, "NDCG@5": 0.0267})
    plus = group("mqsa-ted-plus", **{"NDCG@20": 0.0703 * 1.05})
    rows = published_rows("beauty", [full, plus])
    assert [row[0::2] for row in rows] == [
        ["MQSA-TED", "HR@5", "0.0752", "+0.0%"],
        ["MQSA-TED", "NDCG@5", "0.0534", "-50.0%"],
        ["MQSA-TED+", "NDCG@20", "0.0703", "+5.0%"],
    ]
    assert published_rows("a log of one's own", [full, plus]) == []


def test_the_reference_is_in_each_panel_of_many_models(tmp_path, add_run):
    for model in ("mqsa-ted", "mqsa", "sasrec", "gat", "ges", "grareg", "gru4rec", "fmlp"):
        add_run(model, model, 1, [1] * USERS)
    groups = group_runs(load_runs(tmp_path / "runs")[0])
    assert list(families(groups)) == [""]  # 8 lines are few enough
    add_run("mqsa-ted-8", "mqsa-ted", 1, [1] * USERS, dim=8)
    panels = families(group_runs(load_runs(tmp_path / "runs")[0])).values()
    labels = [[group.label for group in panel] for panel in panels]
    assert labels == [
        ["MQSA-TED", "MQSA", "SASRec"],
        ["MQSA-TED", "GRU4Rec", "FMLP-Rec", "GES", "GraReg", "GAT"],
        ["MQSA-TED", "MQSA-TED --dim 8"],
    ]


def swept(tmp_path):
    """Names of the runs by flag and value."""
    (found,) = sensitivities(group_runs(load_runs(tmp_path / "runs")[0]), [])
    return {
        flag: {value: [run.name for run in runs] for value, runs in values.items()}
        for flag, values in found.values.items()
    }


def test_sensitivity(tmp_path, four_runs, add_run, report):
    add_run("window-5", "mqsa-ted", 1, [7] * USERS, window=5)
    add_run("two-flags", "mqsa-ted", 1, [7] * USERS, window=9, alpha=0.1)
    page = report()
    assert "| `--window 3` | 1, 2 | 0.3000 ± 0.0000 | 0.7500 ± 0.3536 | 0.7500 ± 0.3536 |" in page
    assert "| `--window 5` | 1 | 0.3000 | 0.0000 | 0.3333 |" in page
    assert "| `--window 9`" not in page
    assert list(swept(tmp_path)["window"]) == [3, 5]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("/secret/items.json", ["--item-attributes=/secret/items.json"]),
        ("/secret/items.json", ["--item-attributes", "/secret/items.json"]),
        ("items.json", []),
    ],
)
def test_runs_with_attributes_beside_runs_without(
    tmp_path, four_runs, add_run, report, file, words
):
    folder = add_run("attributes", "mqsa-ted", 1, [1] * USERS, item_attributes=file)
    test = json.loads((folder / "test_metrics.json").read_text())
    test["provenance"]["command"] += words
    (folder / "test_metrics.json").write_text(json.dumps(test))
    add_run("columns", "mqsa-ted", 1, [7] * USERS, item_attributes=file, attribute_columns="a")
    page = report()
    assert "| MQSA-TED `--item-attributes` |" in page
    assert "| MQSA-TED `--item-attributes --attribute-columns a` |" in page
    assert "--item-attributes items.json" in page or "--item-attributes=items.json" in page
    assert "/secret" not in page
    # A file is no value of an axis.
    assert not sensitivities(group_runs(load_runs(tmp_path / "runs")[0]), [])


def test_a_flag_that_may_be_left_out_is_varied_too(tmp_path, add_run, report):
    for name, columns in (("all", None), ("b", "b"), ("a", "a")):
        given = {"item_attributes": "items.json", "attribute_columns": columns}
        add_run(name, "mqsa-ted", 1, [1] * USERS, **given)
    assert list(swept(tmp_path)["attribute_columns"]) == [None, "a", "b"]
    assert "| `no --attribute-columns` | 1 |" in report()


def test_models_that_are_the_full_one_with_a_flag_fixed(tmp_path, four_runs, add_run):
    add_run("mqsa-1", "mqsa", 1, [7] * USERS)
    add_run("sasrec-ted-1", "sasrec-ted", 1, [1] * USERS)
    add_run("ges-1", "ges", 1, [1] * USERS)  # another encoder, whatever its flags
    assert swept(tmp_path) == {  # sasrec-1 differs in both flags
        "alpha": {0.5: ["full-1", "full-2"], 1.0: ["sasrec-ted-1"]},
        "lambda_kd": {0.0: ["mqsa-1"], 0.1: ["full-1", "full-2"]},
    }


def test_sensitivity_from_a_sweep(four_runs, write_sweep, log, report):
    write_sweep(
        ({"window": 3, "seed": 1}, 0.9, 0.9),  # the run full-1, known already
        ({"window": 3, "seed": 5}, 0.6, 0.75),
        ({"window": 5, "seed": 1}, 0.25, 0.5),
        ({"window": 5, "seed": 5}, 0.25, 0.5),
    )
    page = report()
    assert (
        "| `--window 3` | 1, 2, 5 | 0.4000 ± 0.1732 | 0.7500 ± 0.2500 | 0.7500 ± 0.2500 |" in page
    )
    assert "| `--window 5` | 1, 5 | 0.2500 ± 0.0000 | 0.5000 ± 0.0000 | 0.5000 ± 0.0000 |" in page
    # All trials are in the sweep's own table, also the one that diverged.
    assert "| `--window 3` | 1, 5 | 0.7500 ± 0.2121 | 0.8250 ± 0.1061 |" in page
    assert "| `--window 99` | 1 | diverged: the loss of step 3 is nan |" in page
    command = f"`mqsa-jax sweep --dataset {log} --seeds 1,5 --window 3,5,99`"
    assert f"{command}, 5 trials, commit def5678:" in page


def test_a_configuration_of_before_names_and_flags(tmp_path, add_run):
    folder = add_run("old", "mqsa-ted", 1, [1] * USERS)
    config = json.loads((folder / "config.json").read_text())
    for flag in ("model", "span_decay", "precision"):
        del config[flag]
    write_json(folder / "config.json", config)
    ((run,), _) = load_runs(tmp_path / "runs")
    assert run.model == "mqsa-ted" and run.differs == {} and run.config["precision"] == "float32"


def test_a_flag_that_a_recipe_had_not_yet(tmp_path, add_run):
    """A run is not said to have had what its model has had only since."""
    folder = add_run("old", "mqsa-ted-plus", 1, [1] * USERS)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("ema_decay") > 0
    write_json(folder / "config.json", config)
    ((run,), _) = load_runs(tmp_path / "runs")
    assert run.config["ema_decay"] == 0 and run.settings == "--ema-decay 0.0"
    assert pytest.approx(run.valid) == 0.3
