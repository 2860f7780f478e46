"""Runs of every age are read: those kept in docs/results, and files that are broken or too new."""

import json
from pathlib import Path

import pytest

from mqsa_jax.config import FORMAT_VERSION, RUN_FLAGS, Config
from mqsa_jax.errors import UserError
from mqsa_jax.older_runs import WITHOUT_FLAG
from mqsa_jax.reporting.results import load_run
from mqsa_jax.runs.run_directory import RunDirectory

RESULTS = Path(__file__).parents[2] / "docs" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/config.json"))


def test_runs_of_several_ages_are_kept():
    assert len(FOLDERS) >= 86
    keys = {tuple(json.loads((folder / "config.json").read_text())) for folder in FOLDERS}
    assert len(keys) >= 4


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_kept_run_has_the_configuration_of_its_file(folder):
    written = json.loads((folder / "config.json").read_text())
    config = RunDirectory(folder).config()
    flat = config.flat()
    assert {name: flat[name] for name in written.keys() & flat.keys()}.items() <= written.items()
    for name in flat.keys() - written.keys():
        # What is younger than the run changes nothing in it; the term has no weight without items.
        assert flat[name] == WITHOUT_FLAG.get(name, flat[name])
        unused_term = name.startswith("term_") and flat["term_items"] == 0
        assert name in WITHOUT_FLAG or name in RUN_FLAGS or unused_term
    for run in load_run(folder):
        assert flat | {"exclude_seen": run.test["exclude_seen"]} == run.config


def test_what_a_file_lacks_is_what_runs_did_before_the_flag(tmp_path, monkeypatch):
    """Whatever defaults are today: here an average and a term would be the default."""
    assert WITHOUT_FLAG.keys() <= Config().flat().keys()
    old = {k: v for k, v in Config().flat().items() if k not in ("ema_decay", "term_items")}
    monkeypatch.setattr(Config, "flat", lambda self: {**old, "ema_decay": 0.9, "term_items": 4})
    config = Config.from_stored(old)
    assert (config.training.ema_decay, config.term.term_items) == (0.0, 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beam": 3, "width": 1}, "unknown configuration keys: beam, width"),
        ({"format_version": FORMAT_VERSION + 1}, f"format version {FORMAT_VERSION + 1} is unknown"),
        ({"format_version": "x"}, "format version 'x' is unknown"),
        ({"format_version": 0}, "format version 0 is unknown"),
        ({"alpha": "0.5"}, "configuration key alpha: '0.5' is of a wrong type"),
    ],
)
def test_what_is_unknown_is_refused_by_name(tmp_path, changes, named):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(Config().stored() | changes))
    with pytest.raises(UserError) as caught:
        RunDirectory(tmp_path).config()
    assert str(caught.value).startswith(f"{file}: {named}")


def test_what_is_missing_gets_its_default(tmp_path):
    (tmp_path / "config.json").write_text('{"dataset": "toys", "dim": 32}')
    config = RunDirectory(tmp_path).config()
    # Runs of before read their data into memory, whatever the size.
    before = {"dataset": "toys", "dim": 32, "stream": "never"}
    assert config == Config.from_flat(Config().flat() | before)
