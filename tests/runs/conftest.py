"""Runs of three epochs, to be copied before harm is done to them."""

import shutil
from pathlib import Path

import pytest

from mqsa_jax.runs.run_directory import RunDirectory
from tests.runs.checkpoint_cases import make_run


@pytest.fixture(scope="module")
def rising(tmp_path_factory) -> Path:
    """Its latest epoch, 3, is the best; not to be changed."""
    return make_run(tmp_path_factory.mktemp("rising") / "run", 0.1, 0.2, 0.3).path


@pytest.fixture(scope="module")
def falling(tmp_path_factory) -> Path:
    """Its second of 3 epochs is the best; not to be changed."""
    return make_run(tmp_path_factory.mktemp("falling") / "run", 0.1, 0.3, 0.2).path


@pytest.fixture
def copy(tmp_path):
    """A function that copies a run, to do harm to."""
    return lambda run: RunDirectory(shutil.copytree(run, tmp_path / "run"))
