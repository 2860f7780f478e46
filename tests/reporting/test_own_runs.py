"""A report of a user's own runs: each of them is in the tables, or named as left out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax.commands.report import report_main
from mqsa_jax.presets import default_config
from mqsa_jax.reporting.results import METRICS, load_runs
from mqsa_jax.runs.files import write_json
from tests.reporting.conftest import USERS


def test_two_runs_that_differ_in_a_flag_are_two_rows(add_run, report):
    add_run("small", "sasrec", 1, [1] * USERS, batch_size=32)
    add_run("large", "sasrec", 1, [3] * USERS)
    page = report()
    assert "| SASRec | 1 seed | 1.0000 | 0.5000 |" in page
    assert "| SASRec `--batch-size 32` | 1 seed | 1.0000 | 1.0000 |" in page
    # They are compared with one another though there is no run of MQSA-TED.
    assert "| SASRec `--batch-size 32` against SASRec | 1 | 40 | +0.5000 |" in page
    assert "| `--batch-size 32` | 1 | 0.3000 | 1.0000 | 1.0000 |" in page
    assert "Left out" not in page


def test_settings_of_all_runs_are_stated_once(add_run, report):
    add_run("a", "mqsa-ted", 1, [1] * USERS, dim=8, epochs=3, lr=0.01)
    add_run("b", "mqsa-ted", 1, [3] * USERS, dim=8, epochs=3, lr=0.1)
    add_run("popular", "popular", 1, [3] * USERS, epochs=0)
    page = report()
    assert "All trained models with `--dim 8`." in page
    assert "| MQSA-TED `--lr 0.01` | 1 seed |" in page and "| MQSA-TED `--lr 0.1` |" in page
    assert "| Most popular | counted |" in page


def test_protocols_are_rows_of_their_own(add_run, report):
    """Of two runs, or two results of one; each is compared with those of its protocol."""
    add_run("a", "mqsa-ted", 1, [1] * USERS)
    add_run("a", "mqsa-ted", 1, [3] * USERS, protocol="none")
    add_run("b", "sasrec", 1, [7] * USERS, protocol="none", exclude_seen="none")
    page = report()
    assert "(`--exclude-seen`): history, none." in page
    assert "| MQSA-TED | 1 seed | 1.0000 | 1.0000 |" in page
    assert "| MQSA-TED (tested with none) | 1 seed | 1.0000 | 0.5000 |" in page
    assert "| SASRec `--exclude-seen none` | 1 seed | 0.0000 |" in page
    assert "| SASRec `--exclude-seen none` against MQSA-TED (tested with none) | 1 |" in page
    assert "against MQSA-TED |" not in page
    assert "| a |" in page and "| a (none) |" in page and "| b |" in page


def test_switches_are_named_as_on_the_command_line(tmp_path, add_run, write_sweep, log, report):
    add_run("a", "mqsa-ted-plus", 1, [1] * USERS)
    on = not default_config(str(log), "mqsa-ted-plus").flat()["choose_term_weight"]
    flag = "--choose-term-weight" if on else "--no-choose-term-weight"
    add_run("b", "mqsa-ted-plus", 1, [1] * USERS, choose_term_weight=on)
    write_sweep(({"seed": 1}, 0.25, 0.5), ({"seed": 2}, 0.25, 0.5))
    page = report()
    assert f"| MQSA-TED+ `{flag}` | 1 seed |" in page and f"--seed 1 {flag}`" in page
    assert f"`mqsa-jax sweep --dataset {log} --seeds 1,2 --window 3,99`" in page


@pytest.mark.filterwarnings("default::UserWarning")
def test_what_is_not_finished_is_named(tmp_path, four_runs, add_run, report, capsys):
    folder = add_run("stopped", "gat", 1, [1] * USERS)
    (folder / "test_metrics.json").unlink()
    (tmp_path / "runs" / "plots").mkdir()
    page = report()
    assert "- `stopped`: not finished, no test result yet." in page
    assert "- `plots`: no run in this folder." in page
    told = capsys.readouterr().err
    assert "`stopped`: not finished" in told and "`plots`" in told


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_run_made_twice_is_named(add_run, report):
    add_run("a", "sasrec", 1, [1] * USERS)
    add_run("b", "sasrec", 1, [3] * USERS)
    page = report()
    assert "| SASRec | 1 seed | 1.0000 | 1.0000 |" in page
    assert "- `b`: same configuration and seed as `a`." in page


def test_data_of_one_name_are_two_data_sets(tmp_path, add_run, report, log):
    """Also a file that is named like a built-in set is not that set."""
    other, toys = tmp_path / "other" / "log.txt", tmp_path / "Toys.txt"
    other.parent.mkdir()
    other.write_text(log.read_text().replace("1 2 4 5", "2 1 4 5"))
    shutil.copy(log, toys)
    add_run("here", "mqsa-ted", 1, [1] * USERS)
    add_run("there", "mqsa-ted", 1, [3] * USERS, dataset=other)
    add_run("toys", "mqsa-ted", 1, [7] * USERS, dataset=toys)
    page = report()
    assert page.count("### Test figures: log.txt") == 2 and "### Test figures: Toys.txt" in page
    assert "published" not in page.lower() and "ICSRec" not in page
    kept = {path.name for path in (tmp_path / "docs/results/analysis").iterdir()}
    assert {"log.json", "toys.json"} < kept and len(kept) == 3


def test_names_that_are_no_file_names(tmp_path, add_run, report, log):
    own = tmp_path / "mein Log (März).txt"
    shutil.copy(log, own)
    add_run("a b", "mqsa-ted", 1, [1] * USERS, dataset=own)
    page = report()
    assert "### Test figures: mein Log (März).txt" in page
    assert "(results/figures/learning_mein-log-märz-.png)" in page
    assert (tmp_path / "docs/results/figures/learning_mein-log-märz-.png").exists()


def test_the_text_holds_for_the_runs_at_hand(tmp_path, add_run, report):
    add_run("a", "sasrec", 1, [1] * USERS)
    page = report()
    assert f"from the result files in `{tmp_path / 'runs'}`" in page
    for word in ("docs/results", "configs/", "Sports", "Yelp", "paper", "MQSA-TED", "method.md"):
        assert word not in page, word
    # One run compares with nothing: there is no section on comparisons, nor on lists or sweeps.
    sections = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert sections == ["Test figures", "Breakdown", "Learning curves", "Runs"]


def test_targets_that_must_be_missed_are_counted_in_the_caption(add_run, report):
    folder = add_run("a", "sasrec", 1, [1] * USERS)
    path = folder / "test_metrics.json"
    test = json.loads(path.read_text())
    write_json(path, {**test, "consumed_targets": 0, "untrained_targets": 3})
    page = report()
    assert " 3 test targets do not occur in training." in page and "count as misses" not in page


def test_notes_beside_the_runs(tmp_path, four_runs, report, refused, capsys):
    notes = tmp_path / "runs" / "notes.md"
    notes.write_text("About these runs.\n\n## Significance\n\nTwo seeds only.\n")
    page = report()
    assert page.index("About these runs.") < page.index("## Test figures")
    assert page.index("## Significance") < page.index("Two seeds") < page.index("### Significance")
    capsys.readouterr()
    shutil.rmtree(tmp_path / "docs")
    notes.write_text("## No such section\n")
    refused("no section No such section on the page")


@pytest.mark.filterwarnings("default::UserWarning")
def test_without_the_data_set(tmp_path, four_runs, log, report, capsys):
    log.unlink()
    page = report()
    assert "| SASRec against MQSA-TED | 1 | 40 |" in page and "## Breakdown" not in page
    assert "no breakdown and list statistics computed" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::UserWarning")
def test_with_other_data_under_the_name(four_runs, log, report, capsys):
    log.write_text(log.read_text().replace("1 2 4 5", "2 1 4 5"))
    assert "## Breakdown" not in report()
    assert "not the data that" in capsys.readouterr().err


def test_no_seed_in_common(add_run, report):
    add_run("a", "mqsa-ted", 1, [1] * USERS)
    add_run("b", "sasrec", 2, [3] * USERS)
    page = report()
    assert "## Significance" not in page and "## Differences by seed" not in page
    assert "no significance test, as no seed with ranks is in common: `b`." in page


def test_a_sweep_alone(tmp_path, write_sweep, report):
    (tmp_path / "runs").mkdir()
    write_sweep(({"alpha": 0.5}, 0.25, 0.5), ({"alpha": 1.0}, 0.5, 0.75))
    page = report()
    assert "### Sensitivity: log.txt" in page and "## Test figures" not in page
    assert "| `--alpha 1.0 --window 3` |" in page or "| `--window 3 --alpha 1.0` |" in page


def test_one_run_by_its_own_folder(tmp_path, add_run):
    pytest.importorskip("matplotlib")
    folder = add_run("a", "sasrec", 1, [1] * USERS)
    assert report_main(["--results", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "| SASRec | 1 seed |" in (tmp_path / "out/results.md").read_text()


def break_json(folder: Path):
    (folder / "test_metrics.json").write_text("{")


def break_config(folder: Path):
    (folder / "config.json").write_text("[]")


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
        (break_config, "config.json: not a configuration"),
        (break_lines, "metrics.jsonl: not readable"),
        (drop_metrics, "test_metrics.json: lacks one of HR@5"),
        (swap_ranks, "ranks.npz: not the ranks of test_metrics.json"),
        (break_ranks, "ranks.npz: array user_ids is not readable"),
    ],
)
def test_a_broken_run_is_one_line(tmp_path, four_runs, refused, damage, named):
    pytest.importorskip("matplotlib")
    damage(tmp_path / "runs" / "full-1")
    refused(named)


def test_no_run_is_one_line(tmp_path, refused):
    pytest.importorskip("matplotlib")
    refused("runs: no such folder")
    (tmp_path / "runs").mkdir()
    refused("no finished run in it")


def test_a_broken_sweep_is_one_line(four_runs, write_sweep, refused):
    pytest.importorskip("matplotlib")
    table = write_sweep(({"window": 5}, 0.5, 0.5))
    table.write_text(table.read_text().replace("0.5", "half"))
    refused("not a table of mqsa-jax sweep")


def test_without_matplotlib(four_runs, refused, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    refused("figures need matplotlib")


def test_results_come_in_the_order_of_the_models(tmp_path, four_runs, add_run):
    for rate in (0.1, 0.02, 0.003):
        add_run(f"lr-{rate}", "mqsa-ted", 1, [1] * USERS, lr=rate)
    runs, left_out = load_runs(tmp_path / "runs")
    assert [run.name for run in runs] == [
        "full-1", "full-2", "lr-0.003", "lr-0.02", "lr-0.1", "sasrec-1", "popular",
    ]  # fmt: skip
    assert left_out == []
