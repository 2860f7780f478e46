"""Commands and their surroundings: folders in use, lost readers, odd names, data that moved."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.errors import FolderError
from mqsa_jax.runs.files import LOCK, locked

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--patience=20",
    "--dim=4",
    "--max-len=4",
    "--epochs=1",
    "--devices=1",
    "--lambda-kd=0",
    "--batch-size=8",
]
HOLD = """
import sys, time
from pathlib import Path
from mqsa_jax.runs.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def write_data(path: Path):
    lines = (
        f"{user} {' '.join(str((user + step) % 9 + 1) for step in range(5))}\n"
        for user in range(1, 9)
    )
    path.write_text("".join(lines))


def popen(*arguments: str, **options) -> subprocess.Popen:
    """A process of its own, which shares the compiled programs."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    env = {**os.environ, **cache, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen([sys.executable, *arguments], env=env, **options)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "small.txt")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def trained(home) -> Path:
    assert train_main(["--dataset=small.txt", *FLAGS, "--run-dir=run"]) == 0
    return home / "run"


def test_a_folder_in_use_is_refused_in_one_line_until_its_process_dies(trained, home, capsys):
    (home / "sweep").mkdir()
    before = files(home)
    holders = [
        popen("-c", HOLD, name, stdout=subprocess.PIPE, text=True) for name in ("run", "sweep")
    ]
    try:
        for holder in holders:
            assert holder.stdout.readline() == "held\n"
        capsys.readouterr()
        for main, arguments in (
            (train_main, ["--dataset=small.txt", *FLAGS, "--run-dir=run"]),
            (train_main, ["--dataset=small.txt", *FLAGS, "--run-dir=run", "--no-resume"]),
            (eval_main, ["--run-dir=run"]),
            (sweep_main, ["--dataset=small.txt", *FLAGS, "--sweep-dir=sweep"]),
        ):
            assert main(arguments) == 2
            message = capsys.readouterr().err
            assert "is in use by another process" in message and message.count("\n") == 1
        assert files(home) == before | {f"run/{LOCK}", f"sweep/{LOCK}"}
    finally:
        for holder in holders:
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            holder.stdout.close()
    assert eval_main(["--run-dir=run", "--devices=1"]) == 0
    assert files(trained) == {name[4:] for name in before if name.startswith("run/")}


def test_a_lock_leaves_nothing_behind_and_takes_nothing_away(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
        with pytest.raises(FolderError, match="in use"), locked(tmp_path / "a" / "b"):
            pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        (tmp_path / "mine" / "result").touch()
    assert files(tmp_path) == {"mine", "mine/result"}
    with pytest.raises(FolderError, match="is a file"), locked(tmp_path / "mine" / "result"):
        pass


def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(home, capsys):
    """`/proc` takes no files, not even from the superuser."""
    for folder in ("/proc/run", "/proc/self"):
        assert train_main(["--dataset=small.txt", *FLAGS, "--no-resume", "--run-dir", folder]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and folder in message and "in use" not in message


def test_a_folder_whose_name_is_not_text_is_refused_before_training(home, capsys):
    folder = os.fsdecode(b"run\xff")
    assert train_main(["--dataset=small.txt", *FLAGS, "--run-dir", folder]) == 2
    message = capsys.readouterr().err
    assert "is not Unicode text" in message and message.count("\n") == 1


def test_training_goes_on_without_its_reader(home):
    """As `train.py | head -1`: the result is there, and the exit code is that of the training."""
    arguments = [
        str(ROOT / "train.py"),
        "--dataset=small.txt",
        *FLAGS,
        "--epochs=3",
        "--run-dir=run",
    ]
    process = popen(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("epoch 1/3")
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, "")
    process.stderr.close()
    result = json.loads((home / "run" / "test_metrics.json").read_text())
    assert (
        result["users"] == 8 and len((home / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    )


def test_a_name_that_the_console_cannot_print_ends_nothing(home):
    """A path in Chinese on a console of Windows."""
    folder = home / "数据"
    folder.mkdir()
    write_data(folder / "历史.txt")
    arguments = [str(ROOT / "train.py"), "--dataset", str(folder / "历史.txt"), *FLAGS]
    with popen(
        *arguments,
        "--run-dir",
        str(folder / "运行"),
        env={"PYTHONIOENCODING": "cp1252"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    text = out.decode("cp1252")
    assert r"\u5386\u53f2.txt, test split" in text and r"\u8fd0\u884c" in text
    assert "NDCG" in text and (folder / "运行" / "test_metrics.json").exists()


@pytest.mark.parametrize(
    "names", [("small.txt", "./small.txt"), ("./small.txt", "{home}/small.txt")]
)
def test_a_file_is_the_same_by_every_path(home, names):
    for name in names:
        path = name.format(home=home)
        assert train_main([f"--dataset={path}", *FLAGS, "--run-dir=run"]) == 0
    config = json.loads((home / "run" / "config.json").read_text())
    assert config["dataset"] == str(home / "small.txt")


def test_a_run_is_evaluated_from_elsewhere_and_where_its_data_lie_now(
    trained, home, monkeypatch, capsys
):
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert eval_main(["--run-dir=../run", "--devices=1"]) == 0
    (home / "small.txt").rename(home / "elsewhere" / "moved.txt")
    capsys.readouterr()
    assert eval_main(["--run-dir=../run", "--devices=1"]) == 2
    message = capsys.readouterr().err
    assert str(home / "small.txt") in message and "--dataset" in message
    assert eval_main(["--run-dir=../run", "--devices=1", "--dataset=moved.txt"]) == 0
    assert train_main(["--dataset=moved.txt", *FLAGS, "--run-dir=../run", "--epochs=2"]) == 0


@pytest.mark.parametrize("model", ["mqsa", "popular"])
def test_other_data_are_refused_whatever_their_name(home, capsys, model):
    flags = [f"--model={model}", *(flag for flag in FLAGS if "lambda" not in flag), "--run-dir=run"]
    assert train_main(["--dataset=small.txt", *flags]) == 0
    before = (home / "run" / "test_metrics.json").read_bytes()
    (home / "other.txt").write_text("1 1 2 3 4\n2 2 3 4 5\n3 3 4 5 6 7\n4 1 2 9 8\n")
    (home / "small.txt").write_bytes((home / "other.txt").read_bytes())
    capsys.readouterr()
    for main, arguments in (
        (train_main, ["--dataset=other.txt", *flags]),
        (train_main, ["--dataset=small.txt", *flags]),
        (eval_main, ["--run-dir=run", "--dataset=other.txt", "--devices=1"]),
        (eval_main, ["--run-dir=run", "--devices=1"]),
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "other data" in message and "--dataset" in message and message.count("\n") == 1
    assert (home / "run" / "test_metrics.json").read_bytes() == before


def test_devices_may_change_on_resume(trained):
    flags = [flag for flag in FLAGS if not flag.startswith(("--devices", "--epochs"))]
    arguments = ["--dataset=small.txt", *flags, "--run-dir=run", "--devices=2", "--epochs=2"]
    assert train_main(arguments) == 0
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("lower", "named"),
    [
        (["--epochs=1"], "has trained 3 epochs, but epochs 1 and patience 20 end after 1"),
        (["--epochs=2"], "has trained 3 epochs, but epochs 2 and patience 20 end after 2"),
    ],
)
def test_a_run_longer_than_asked_for_is_refused(home, capsys, lower, named):
    arguments = ["--dataset=small.txt", *FLAGS, "--run-dir=run", "--epochs=3"]
    assert train_main(arguments) == 0
    before = {
        name: (home / "run" / name).read_bytes() for name in ("config.json", "test_metrics.json")
    }
    capsys.readouterr()
    assert train_main([*arguments, *lower]) == 2
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1 and "--run-dir" in message
    assert {name: (home / "run" / name).read_bytes() for name in before} == before
    assert train_main([*arguments, "--epochs=4"]) == 0


def test_the_program_is_named_as_it_was_typed(home, capsys):
    from mqsa_jax.__main__ import main

    assert main(["train", "--alpha=2"]) == 2
    assert capsys.readouterr().err.startswith("mqsa-jax train: error: --alpha must be")
    assert train_main(["--alpha=2"]) == 2
    assert capsys.readouterr().err.startswith("train.py: error: --alpha must be")
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out
    assert main(["tune"]) == 2
    assert capsys.readouterr().err.startswith("mqsa-jax: error: no command 'tune'")
