"""A report of a few runs made for the purpose: numbers of the page, what is kept, bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax.commands.report import report_main
from mqsa_jax.config import Config
from mqsa_jax.data.histories import read_histories
from mqsa_jax.presets import default_config
from mqsa_jax.reporting.build_report import read_study
from mqsa_jax.reporting.charts import Line, families, sweeps
from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.rank_files import ndcg
from mqsa_jax.reporting.results import METRICS, Run, by_dataset, load_run, load_runs
from mqsa_jax.reporting.run_list import command
from mqsa_jax.reporting.tables import _corrected, published_rows
from mqsa_jax.runs.files import write_json
from mqsa_jax.runs.sweep_directory import SweepDirectory
from mqsa_jax.runs.sweep_directory import flags as config_flags

USERS = 40


@pytest.fixture
def log(tmp_path) -> Path:
    """A data set of the user's own: all ask for the transition 4 → 5, seen by half of them."""
    path = tmp_path / "log.txt"
    lines = [f"{u} {'4 5 4 5' if u % 2 else '1 2 4 5'}" for u in range(1, USERS + 1)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def add_run(tmp_path, log):
    """Writes a run's folder; ranks are a function of the user's number."""

    def add(name: str, model: str, seed: int, rank_U, *, ranks=True, epochs=3, **flags):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        rank_U = np.array(rank_U, np.float32)
        histories = read_histories(log)
        config = {**default_config(str(log), model).flat(), "seed": seed, **flags}
        write_json(folder / "config.json", config)
        test = {f"HR@{k}": float((rank_U <= k).mean()) for k in (5, 10, 20)}
        test |= {f"NDCG@{k}": float(ndcg(rank_U, k).mean()) for k in (5, 10, 20)}
        test |= {"users": USERS, "items": 4, "exclude_seen": "history", "epoch": epochs}
        command = ["train.py", "--model", model, "--seed", str(seed), "--run-dir", "/secret/place"]
        made_by = {"command": command, "commit": "abc1234", "machine": "a machine"}
        test |= {"provenance": made_by, "versions": {"python": "3.11"}}
        test["data_fingerprint"] = histories.fingerprint()
        write_json(folder / "test_metrics.json", test)
        lines = [
            {"epoch": e, "seconds": 2.0 * e, "valid_NDCG@20": 0.1 * e} for e in range(1, epochs + 1)
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if ranks:
            users = histories.user_ids
            np.savez_compressed(folder / "ranks.npz", user_ids=users, test=rank_U)
        return folder

    return add


@pytest.fixture
def four_runs(add_run):
    """Two seeds of the full model, one of another, and one that is not trained."""
    add_run("full-1", "mqsa-ted", 1, [1] * USERS)
    add_run("full-2", "mqsa-ted", 2, [3] * USERS)
    add_run("sasrec-1", "sasrec", 1, [3] * USERS)
    add_run("popular", "popular", 7, [7] * USERS, epochs=0)


def report(tmp_path: Path, *more: str) -> str:
    """The page that mqsa-jax report makes."""
    pytest.importorskip("matplotlib")
    out = tmp_path / "docs"
    assert report_main(["--results", str(tmp_path / "runs"), "--out", str(out), *more]) == 0
    return (out / "results.md").read_text()


def test_numbers_of_the_page(tmp_path, four_runs):
    page = report(tmp_path)
    # NDCG is 1, 1 / log2(4) and 1 / log2(8); of 1 and 0.5 the standard deviation is 0.3536.
    assert "| mqsa-ted | 2 seeds | 1.0000 ± 0.0000 | 0.7500 ± 0.3536 |" in page
    assert "| sasrec | 1 seed | 1.0000 | 0.5000 |" in page
    assert "| popular | counted | 0.0000 | 0.0000 |" in page
    # Against the one seed in common, and what is not trained against both.
    assert "| sasrec against mqsa-ted | 1 | 40 | -0.5000 | -0.5000 to -0.5000 | 0.0004 |" in page
    assert "| popular against mqsa-ted | 1, 2 | 40 | -0.4167 |" in page  # 1/3 less 3/4
    assert "| sasrec | 1 seed | 1.0000 | +0.0000 | 0.5000 | -0.5000 |" in page  # ablation
    # Half of the users have two items of training, 4 5 that are asked for again: 20 times seen.
    assert (
        "| model | 0 (0 users) | 1 (0 users) | 2 (0 users) | 3-5 (0 users) | >5 (40 users)" in page
    )
    assert "| popular |  |  |  |  | 0.3333 |" in page
    assert (
        "| full-1 | `python train.py --model mqsa-ted --seed 1` | abc1234 | a machine | A |" in page
    )
    assert "not trained" in page and "secret" not in page
    assert "None yet: coverage, novelty" in page and "In no test" not in page
    figures = sorted(path.name for path in (tmp_path / "docs/results/figures").iterdir())
    assert figures == ["breakdown_log.png", "learning_log.png"]


def test_page_from_kept_files_alone(tmp_path, four_runs, log):
    page = report(tmp_path)
    log.unlink()
    for path in tmp_path.rglob("ranks.npz"):
        path.unlink()
    study = read_study(tmp_path / "runs", tmp_path / "docs")
    assert build_page(study, tmp_path / "docs/results/parts") == page
    assert report(tmp_path) == page


def test_distillation_is_compared_with_the_same_encoder(tmp_path, four_runs, add_run):
    add_run("sasrec-ted-1", "sasrec-ted", 1, [1] * 30 + [7] * 10)
    add_run("fmlp-ted-1", "fmlp-ted", 1, [1] * USERS)  # fmlp is missing
    page = report(tmp_path)
    # (30 * 1 + 10 / 3) / 40 less 1 / 2.
    assert "| sasrec-ted against sasrec | 1 | 40 | +0.3333 |" in page
    assert "against fmlp" not in page and "against mqsa |" not in page


def test_models_that_rank_alike_are_one_comparison():
    equal = {"difference": -0.1, "p_ndcg": 0.02, "p_rank": 0.5}
    other = {"difference": 0.2, "p_ndcg": 0.03, "p_rank": 0.5}
    assert _corrected([equal, other, equal], "p_ndcg") == [0.04, 0.04, 0.04]


def test_a_command_names_what_is_no_default_of_today(add_run):
    """Even if it was the default when the run was made."""
    run = load_run(add_run("old", "mqsa-ted", 1, [1] * USERS, tau=0.05, num_heads=1))
    assert command(run) == "`python train.py --model mqsa-ted --seed 1 --tau 0.05`"


def test_runs_without_ranks_are_named(tmp_path, four_runs, add_run):
    add_run("mqsa-1", "mqsa", 1, [2] * USERS, ranks=False)
    page = report(tmp_path)
    assert "In no test and breakdown for want of `ranks.npz`: mqsa-1." in page
    # Lists alone do not make up for them.
    shown = np.zeros((USERS, 20), np.int32)
    np.savez_compressed(tmp_path / "runs/mqsa-1/recommendations.npz", test_top20=shown)
    page = report(tmp_path)
    assert "In no test and breakdown for want of `ranks.npz`: mqsa-1." in page
    assert "| mqsa | 1 seed |" in page and "| mqsa against" not in page


def test_a_run_made_anew_leaves_the_kept_analysis(tmp_path, four_runs):
    report(tmp_path)
    folder = tmp_path / "runs" / "sasrec-1"
    (folder / "ranks.npz").unlink()
    test = json.loads((folder / "test_metrics.json").read_text())
    write_json(folder / "test_metrics.json", {**test, "NDCG@20": 0.25})
    assert "for want of `ranks.npz`: sasrec-1." in report(tmp_path)


def test_recommended_lists(tmp_path, four_runs):
    shown = np.tile(np.arange(2, dtype=np.int32), (USERS, 1))
    np.savez_compressed(tmp_path / "runs/full-1/recommendations.npz", test_top20=shown)
    # Items 1 and 2 of 4, shown always, and 20 times in training each.
    # Lists of another length are left out.
    np.savez_compressed(tmp_path / "runs/full-2/recommendations.npz", test_top3=shown)
    page = report(tmp_path)
    assert "| mqsa-ted | 1 | 0.500 | 2.00 | 20.0 | 0.500 | 100.0% |" in page
    assert "Not in the table, for want of lists: full-2, sasrec-1, popular." in page


def test_ablation(tmp_path, add_run):
    for seed, less in ((1, 0.01), (2, 0.03)):
        folder = add_run(f"plus-{seed}", "mqsa-ted-plus", seed, [1] * USERS)
        whole = {"name": "the recipe", "flags": {}, "HR@20": 0.5, "NDCG@20": 0.25}
        other = {"name": "no term", "flags": {"term_items": 0}, "HR@20": 0.5}
        write_json(folder / "ablation.json", [whole, {**other, "NDCG@20": 0.25 - less}])
    add_run("narrow-1", "mqsa-ted-plus", 1, [1] * USERS, dim=8)
    page = report(tmp_path)
    assert "| `--dim 8` | 1 | 0.3000 | 1.0000 | 1.0000 |" in page
    assert "| the recipe |  | 2 | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 |  |" in page
    row = (
        "| no term | `--term-items 0` | 2 | 0.5000 ± 0.0000 | 0.2300 ± 0.0141 | -0.0200 ± 0.0100 |"
    )
    assert row in page


def test_beside_published_figures():
    def models(**figures):
        return [Run(Path("run"), {}, {}, [], figures, "", [])]

    rows = published_rows(
        "beauty",
        {
            "mqsa-ted": models(**{"HR@5": 0.0752, "NDCG@5": 0.0267}),
            "mqsa-ted-plus": models(**{"NDCG@20": 0.0703 * 1.05}),
        },
    )
    assert [row[0::2] for row in rows] == [
        ["mqsa-ted", "HR@5", "0.0752", "+0.0%"],
        ["mqsa-ted", "NDCG@5", "0.0534", "-50.0%"],
        ["mqsa-ted-plus", "NDCG@20", "0.0703", "+5.0%"],
    ]
    assert published_rows("a log of one's own", {}) == []


def test_the_full_model_stands_in_each_panel_of_models():
    full, part, other = (Line(n, 0, [0.0], [1.0], model=n) for n in ("mqsa-ted", "sasrec", "gat"))
    assert list(families([full, part, other]).values()) == [[full, part], [full, other]]
    assert list(families([full, part]).values()) == [[full, part]]


def test_sensitivity(tmp_path, four_runs, add_run):
    add_run("window-5", "mqsa-ted", 1, [7] * USERS, window=5)
    add_run("two-flags", "mqsa-ted", 1, [7] * USERS, window=9, alpha=0.1)
    page = report(tmp_path)
    assert "| `--window 3` | 1, 2 | 0.3000 ± 0.0000 | 0.7500 ± 0.3536 | 0.7500 ± 0.3536 |" in page
    assert "| `--window 5` | 1 | 0.3000 | 0.0000 | 0.3333 |" in page
    assert "`--window 9`" not in page
    runs = load_runs(tmp_path / "runs")
    assert list(sweeps(runs, by_dataset(runs)["log"])["window"]) == [3, 5]


def test_models_that_are_the_full_one_with_a_flag_fixed(tmp_path, four_runs, add_run):
    add_run("mqsa-1", "mqsa", 1, [7] * USERS)
    add_run("sasrec-ted-1", "sasrec-ted", 1, [1] * USERS)
    add_run("ges-1", "ges", 1, [1] * USERS)  # another encoder, whatever its flags
    runs = load_runs(tmp_path / "runs")
    swept = sweeps(runs, by_dataset(runs)["log"])  # sasrec-1 differs in both flags
    names = {
        flag: {x: [run.name for run in found] for x, found in values.items()}
        for flag, values in swept.items()
    }
    assert names == {
        "alpha": {0.5: ["full-1", "full-2"], 1.0: ["sasrec-ted-1"]},
        "lambda_kd": {0.0: ["mqsa-1"], 0.1: ["full-1", "full-2"]},
    }


def write_sweep(tmp_path, log, *trials):
    """The table of a sweep; trials are their flags, and validation and test NDCG@20."""
    rows = []
    for flags, valid, test in trials:
        config = Config.from_flat({**default_config(str(log), "mqsa-ted").flat(), **flags})
        figures = {f"test_{name}": test for name in METRICS} | {"valid_NDCG@20": valid}
        rows.append({**config_flags(config), **figures, "problem": "", "commit": "def5678"})
    rows.append({**rows[0], "window": 99, "problem": "the loss of step 3 is nan"})
    folder = SweepDirectory(tmp_path / "sweeps" / "log")
    folder.path.mkdir(parents=True)
    folder.add(rows)
    return folder.results


def test_sensitivity_from_a_sweep(tmp_path, four_runs, log):
    write_sweep(
        tmp_path,
        log,
        ({"window": 3, "seed": 1}, 0.9, 0.9),  # the run full-1, known already
        ({"window": 3, "seed": 5}, 0.6, 0.75),
        ({"window": 5, "seed": 1}, 0.25, 0.5),
        ({"window": 5, "seed": 5}, 0.25, 0.5),
    )
    page = report(tmp_path)
    assert (
        "| `--window 3` | 1, 2, 5 | 0.4000 ± 0.1732 | 0.7500 ± 0.2500 | 0.7500 ± 0.2500 |" in page
    )
    assert "| `--window 5` | 1, 5 | 0.2500 ± 0.0000 | 0.5000 ± 0.0000 | 0.5000 ± 0.0000 |" in page
    assert "--window 99" not in page
    command = f"`mqsa-jax sweep --dataset {log} --seeds 1,5 --window 3,5`"
    assert f"| {command} | 4 | def5678 |" in page


def test_a_broken_sweep_is_one_line(tmp_path, four_runs, log, capsys):
    pytest.importorskip("matplotlib")
    table = write_sweep(tmp_path, log, ({"window": 5}, 0.5, 0.5))
    table.write_text(table.read_text().replace("0.5", "half"))
    assert report_main(["--results", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 2
    assert "not a table of mqsa-jax sweep" in capsys.readouterr().err


def test_a_configuration_of_before_names_and_flags(tmp_path, add_run):
    folder = add_run("old", "mqsa-ted", 1, [1] * USERS)
    config = json.loads((folder / "config.json").read_text())
    for flag in ("model", "span_decay", "precision"):
        del config[flag]
    write_json(folder / "config.json", config)
    (run,) = load_runs(tmp_path / "runs")
    assert run.model == "mqsa-ted" and run.differs == {} and run.config["precision"] == "float32"


def test_a_flag_that_a_recipe_had_not_yet(tmp_path, add_run):
    """A run is not said to have had what its model has had only since."""
    folder = add_run("old", "mqsa-ted-plus", 1, [1] * USERS)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("ema_decay") > 0
    write_json(folder / "config.json", config)
    (run,) = load_runs(tmp_path / "runs")
    assert run.config["ema_decay"] == 0 and run.settings == "--ema-decay 0.0"


def break_json(folder: Path):
    (folder / "test_metrics.json").write_text("{")


def break_lines(folder: Path):
    (folder / "metrics.jsonl").write_text("no JSON\n")


def drop_metrics(folder: Path):
    write_json(folder / "test_metrics.json", {name: 0.5 for name in METRICS[1:]})


def swap_ranks(folder: Path):
    np.savez(folder / "ranks.npz", user_ids=np.arange(USERS), test=np.full(USERS, 2.0))


def break_ranks(folder: Path):
    (folder / "ranks.npz").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (break_json, "test_metrics.json: not readable as JSON"),
        (break_lines, "metrics.jsonl: not readable"),
        (drop_metrics, "test_metrics.json: lacks one of HR@5"),
        (swap_ranks, "ranks.npz: not the ranks of test_metrics.json"),
        (break_ranks, "ranks.npz: no array user_ids"),
    ],
)
def test_a_broken_run_is_one_line(tmp_path, four_runs, capsys, damage, named):
    pytest.importorskip("matplotlib")
    damage(tmp_path / "runs" / "full-1")
    refuse(tmp_path, capsys, named)


def test_no_run_is_one_line(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    refuse(tmp_path, capsys, "runs: no such folder")
    (tmp_path / "runs").mkdir()
    refuse(tmp_path, capsys, "no finished run in it")


def test_twins_are_refused(tmp_path, four_runs, add_run, capsys):
    pytest.importorskip("matplotlib")
    add_run("twin", "sasrec", 1, [3] * USERS)
    refuse(tmp_path, capsys, "of one configuration and seed")


def test_without_matplotlib(tmp_path, four_runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refuse(tmp_path, capsys, "the figures take matplotlib")


def refuse(tmp_path: Path, capsys, named: str):
    """mqsa-jax report must end with one line on stderr, and write nothing."""
    out = tmp_path / "docs"
    assert report_main(["--results", str(tmp_path / "runs"), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("mqsa-jax report: error: ") and len(printed.err.splitlines()) == 1
    assert named in printed.err and printed.out == "" and not out.exists()
