"""`mqsa-jax prepare`, and training on its folder or on the raw log itself."""

import csv
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pooch
import pyarrow.parquet as pq
import pytest

from examples.make_reviews import reviews
from mqsa_jax.__main__ import main
from mqsa_jax.commands.prepare import prepare_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.prepare import folder_writer
from tests.prepare.log_cases import random_events, write_csv

SMALL = ["--dim", "4", "--max-len", "5", "--batch-size", "8", "--epochs", "1"]


@pytest.fixture
def log(home):
    return write_csv(home / "log.csv", random_events(0, users=20, events=300))


def test_a_log_is_prepared_and_trained_on(log, home, capsys):
    assert main(["prepare", str(log), "--output", "data", "--min-user", "4"]) == 0
    printed = capsys.readouterr().out
    assert "user user_id, item item_id, time timestamp" in printed
    assert "data: 20 users, 9 items, " in printed
    assert train_main(["--dataset", "data", "--run-dir", "run", *SMALL]) == 0
    assert "data" in capsys.readouterr().out
    assert (home / "run" / "test_metrics.json").is_file()


def test_a_raw_log_is_prepared_on_the_way(log, home, capsys, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: home / "cache" / name)
    arguments = ["--dataset", "log.csv", "--run-dir", "run", *SMALL]
    assert train_main(arguments) == 0
    printed = capsys.readouterr().out
    (folder,) = (home / "cache" / "mqsa_jax" / "prepared").glob("*/log")
    assert f"log.csv: prepared in {folder}" in printed and "read: 300 rows" in printed
    assert train_main(arguments) == 0
    assert "read:" not in capsys.readouterr().out
    # A changed file is prepared anew, and is not the run's data any more.
    write_csv(log, random_events(1, users=20, events=300))
    assert train_main(arguments) == 2
    assert "data" in capsys.readouterr().err


def test_the_commands_of_the_readme(home, capsys):
    rows = reviews(80)
    with gzip.open("reviews.json.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    least = ["--min-user", "1", "--min-item", "1"]
    assert main(["prepare", "reviews.json.gz", "--output", "reviews", *least]) == 0
    assert train_main(["--dataset", "reviews", *SMALL]) == 0
    run = ["--run-dir", "runs/reviews-2023"]
    assert main(["recommend", *run, "--all", "--output", "lists.csv"]) == 0
    assert not capsys.readouterr().err
    with open("lists.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    users = sorted({row["reviewerID"] for row in rows})
    assert [row["user"] for row in listed] == [user for user in users for _ in range(10)]
    consumed = {(row["reviewerID"], row["asin"]) for row in rows}
    assert not consumed & {(row["user"], row["item"]) for row in listed}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.csv", "--output", "out"], "no such file: 'nothing.csv'"),
        (["log.csv", "--output", "out", "--user-column", "x"], "--user-column 'x' is no column of"),
        (["log.csv", "--output", "out", "--min-user", "0"], "--min-user must be at least 1"),
        (["log.csv", "--output", "out", "--min-user", "999"], "--min-user 999"),
        (["log.csv", "--output", "out", "--min-rating", "3"], "no column looks like the rating's"),
        (["log.csv", "--output", "out", "--test-from", "0.5"], "of use with --split time alone"),
        (["log.csv", "--output", "out", "--spark-url", "local"], "of use with --engine spark"),
        (["log.csv", "--output", "log.csv"], "log.csv: is there already; --output names another"),
        (["log.csv", "--output", "log.csv/out"], "log.csv"),
        (["log.csv", "--output", "out", "--split", "never"], "never"),
        (["log.csv"], "output"),
        (["--output", "out"], "inputs"),
    ],
)
def test_mistakes_take_one_line(log, home, capsys, arguments, words):
    before = sorted(home.rglob("*"))
    assert prepare_main(arguments) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1 and "Traceback" not in printed.err
    assert printed.err.startswith("mqsa-jax prepare: error: ") and words in printed.err
    assert sorted(home.rglob("*")) == before


def test_a_full_disk_leaves_nothing(log, home, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_writer.pq, "write_table", full)
    assert prepare_main([str(log), "--output", "out"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in home.iterdir()] == ["log.csv"]
    assert pq.write_table is full


def test_a_killed_process_leaves_nothing_that_looks_whole(home):
    write_csv(home / "log.csv", random_events(0, users=2000, events=400_000))
    command = [sys.executable, "-m", "mqsa_jax", "prepare", "log.csv", "--output", "out"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}) as process:
        until = time.monotonic() + 60
        while not list(home.glob(".out-*/.duckdb-*")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (home / "out").exists()
    assert main(["prepare", "log.csv", "--output", "out"]) == 0
