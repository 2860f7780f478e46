"""What the command `explore` refuses, each in one line."""

import socket

import pytest

from mqsa_jax import extras
from mqsa_jax.commands.explore import explore_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config
from mqsa_jax.runs.run_directory import RunDirectory

pytest.importorskip("openTSNE")


@pytest.fixture
def config_only(home):
    """A folder that holds a run's configuration and nothing else."""
    RunDirectory("run").start(Config(), "0" * 64)
    return home


@pytest.fixture
def counted(own_file):
    """A run that was counted, in the folder `counted`."""
    flags = ["--model=popular", "--devices=1", "--run-dir=counted"]
    assert train_main([f"--dataset={own_file}", *flags]) == 0


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--run-dir"),
        (["--run-dir=nowhere"], "--run-dir nowhere: no such folder"),
        (["--run-dir=."], "config.json: no such file; is this the folder of a run?"),
        (["--run-dir=run", "-k=0"], "--k must be at least 1, got 0"),
        (["--run-dir=run", "--port=70000"], "--port must be 0 to 65535, got 70000"),
        (["--run-dir=run", "--host=192.0.2.1"], "--port 0 of --host 192.0.2.1 cannot be had"),
        (["--run-dir=run", "--item-titles=no.csv"], "--item-titles no.csv: no such file"),
        (["--run-dir=run", "--item-attributes=no.json"], "--item-attributes no.json: no such"),
        (["--run-dir=run", "--title-column=x"], "--title-column is of the file that"),
        (["--run-dir=run", "--attribute-columns=x"], "--attribute-columns is of the file that"),
        (["--run-dir=run", "--dataset=qq"], "unknown data set 'qq'"),
        (["--run-dir=run"], "no whole checkpoint; train first"),
    ],
)
def test_flags_and_runs_of_no_use_are_refused(config_only, refused, flags, message):
    assert message in refused(explore_main, *flags)


def test_a_counted_run_is_refused(counted, refused, capsys):
    capsys.readouterr()
    assert "popular is counted, not trained" in refused(explore_main, "--run-dir=counted")


def test_a_port_in_use_is_refused(config_only, refused):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused(explore_main, "--run-dir=run", f"--port={port}")
    assert f"--port {port} of --host 127.0.0.1 is in use; choose another one" in message


def test_a_missing_library_is_told_with_its_extra(config_only, refused, monkeypatch):
    monkeypatch.setitem(extras.MODULES, "explore", ("json", "no_such_package"))
    message = refused(explore_main, "--run-dir=run")
    assert "explore needs no_such_package: pip install 'mqsa-jax[explore]'" in message
