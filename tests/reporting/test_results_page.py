"""The results page is what mqsa-jax report makes of the files kept: no number is typed by hand."""

import shlex
from pathlib import Path

from mqsa_jax.commands.command_line import parse, peek
from mqsa_jax.config import Config, ModelConfig
from mqsa_jax.presets import default_config
from mqsa_jax.reporting import overview
from mqsa_jax.reporting.build_report import read_study
from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.reproduction import command
from mqsa_jax.reporting.results import NO_SETTING, load_runs

ROOT = Path(__file__).parents[2]
RUNS = Path("docs/results/benchmarks")


def test_page_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study(RUNS, Path("docs"))
    assert Path("docs/results.md").read_text() == build_page(study)
    drawn = {path.stem for path in Path("docs/results/figures").glob("*.png")}
    assert drawn == {chart.name for chart in study.charts} | {overview.NAME}


def test_all_runs_are_in_the_tables():
    runs, left_out = load_runs(ROOT / RUNS)
    folders = [path for path in (ROOT / RUNS).iterdir() if path.is_dir()]
    assert len(runs) == len(folders) > 80 and left_out == []


def test_the_command_of_a_run_gives_its_configuration():
    """With the defaults of today, whenever it was made."""
    trained = 0
    for run in load_runs(ROOT / RUNS)[0]:
        _, script, *words = shlex.split(command(run).strip("`"))
        if script.endswith("train.py"):
            model = peek(words, "model") or ModelConfig.model
            config = parse(script, Config, words, None, default_config(run.data.name, model)).flat()
            names = config.keys() - NO_SETTING | {"seed", "model"}
            assert {n: config[n] for n in names} == {n: run.config[n] for n in names}, run.name
            trained += 1
    assert trained > 20
