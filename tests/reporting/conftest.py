"""Runs written by hand on a small data set of the user's own, and the report on them."""

import json
from pathlib import Path

import numpy as np
import pytest

from mqsa_jax.commands.report import report_main
from mqsa_jax.config import Config
from mqsa_jax.data.histories import read_histories
from mqsa_jax.inference.stored_ranks import ndcg_at_20
from mqsa_jax.presets import default_config
from mqsa_jax.reporting.results import METRICS
from mqsa_jax.runs.files import write_json
from mqsa_jax.runs.sweep_directory import SweepDirectory
from mqsa_jax.runs.sweep_directory import flags as config_flags

USERS = 40


@pytest.fixture
def log(tmp_path) -> Path:
    """All are tested on the transition 4 → 5, which half of them made before."""
    path = tmp_path / "log.txt"
    lines = [f"{u} {'4 5 4 5' if u % 2 else '1 2 4 5'}" for u in range(1, USERS + 1)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def add_run(tmp_path, log):
    """Writes a run's folder, or a further result into it."""

    def add(
        name: str,
        model: str,
        seed: int,
        rank_U,
        *,
        ranks=True,
        epochs=3,
        protocol="history",
        dataset=log,
        **flags,
    ):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        rank_U = np.array(rank_U, np.float32)
        histories = read_histories(dataset)
        config = {**default_config(str(dataset), model).flat(), "seed": seed, **flags}
        write_json(folder / "config.json", config)
        test = {f"HR@{k}": float((rank_U <= k).mean()) for k in (5, 10, 20)}
        of_k = {k: np.where(rank_U <= k, ndcg_at_20(rank_U), 0.0) for k in (5, 10, 20)}
        test |= {f"NDCG@{k}": float(value_U.mean()) for k, value_U in of_k.items()}
        test |= {"users": USERS, "items": 4, "exclude_seen": protocol, "epoch": epochs}
        command = ["train.py", "--model", model, "--seed", str(seed), "--run-dir", "/secret/folder"]
        made_by = {"command": command, "commit": "abc1234", "machine": "a machine"}
        test |= {"provenance": made_by, "versions": {"python": "3.11"}}
        test["data_fingerprint"] = histories.fingerprint()
        result = "test" if protocol == "history" else f"test_{protocol}"
        write_json(folder / f"{result}_metrics.json", test)
        lines = [
            {"epoch": e, "seconds": 2.0 * e, "valid_NDCG@20": 0.1 * e} for e in range(1, epochs + 1)
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if ranks:
            users, path = histories.user_ids, folder / "ranks.npz"
            kept = dict(np.load(path)) if path.exists() else {}
            np.savez_compressed(path, **{**kept, "user_ids": users, result: rank_U})
        return folder

    return add


@pytest.fixture
def four_runs(add_run):
    """Two seeds of the full model, one of another, and a counted one."""
    add_run("full-1", "mqsa-ted", 1, [1] * USERS)
    add_run("full-2", "mqsa-ted", 2, [3] * USERS)
    add_run("sasrec-1", "sasrec", 1, [3] * USERS)
    add_run("popular", "popular", 7, [7] * USERS, epochs=0)


@pytest.fixture
def report(tmp_path):
    """Runs mqsa-jax report; returns the page."""
    pytest.importorskip("matplotlib")

    def run(*more: str) -> str:
        out = tmp_path / "docs"
        assert report_main(["--results", str(tmp_path / "runs"), "--out", str(out), *more]) == 0
        return (out / "results.md").read_text()

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """mqsa-jax report must end with one line on stderr, and write nothing."""

    def check(named: str) -> None:
        out = tmp_path / "docs"
        assert report_main(["--results", str(tmp_path / "runs"), "--out", str(out)]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("mqsa-jax report: error: ")
        assert len(printed.err.splitlines()) == 1
        assert named in printed.err and printed.out == "" and not (out / "results.md").exists()

    return check


@pytest.fixture
def write_sweep(tmp_path, log):
    """Writes the table of a sweep; trials are their flags, and validation and test NDCG@20.

    A trial with a window of 99 that diverged is added.
    """

    def write(*trials, model="mqsa-ted"):
        rows = []
        for flags, valid, test in trials:
            config = Config.from_flat({**default_config(str(log), model).flat(), **flags})
            figures = {f"test_{name}": test for name in METRICS} | {"valid_NDCG@20": valid}
            made = {"commit": "def5678", "data_fingerprint": read_histories(log).fingerprint()}
            rows.append({**config_flags(config), **figures, "problem": "", **made})
        rows.append({**rows[0], "window": 99, "problem": "the loss of step 3 is nan"})
        folder = SweepDirectory(tmp_path / "sweeps" / "log")
        folder.path.mkdir(parents=True)
        folder.add(rows)
        return folder.results

    return write
