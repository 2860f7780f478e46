"""An empty working directory, and commands that must fail in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.explore import explore_main
from mqsa_jax.commands.serve import serve_main
from mqsa_jax.commands.train import train_main
from tests.commands.histories import write_histories


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MQSA_DATA_DIR", raising=False)
    return folder


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Everything below a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(home, capsys) -> Callable[..., str]:
    """Runs a command that must fail; returns its one line on stderr."""

    def run(main, *arguments: str) -> str:
        before = tree(home)
        assert main(arguments) == 2
        printed = capsys.readouterr()
        programs = {
            train_main: "train.py",
            eval_main: "eval.py",
            serve_main: "mqsa-jax serve",
            explore_main: "mqsa-jax explore",
        }
        program = programs.get(main, "mqsa-jax recommend")
        assert printed.err.startswith(f"{program}: error: ") and printed.err.endswith("\n")
        assert len(printed.err.splitlines()) == 1 and printed.out == ""
        assert "---" not in printed.err  # no frame
        assert tree(home) == before
        return printed.err

    return run


@pytest.fixture
def own_file(home) -> str:
    """A file of the user's own."""
    write_histories(home / "data.txt")
    return "data.txt"
