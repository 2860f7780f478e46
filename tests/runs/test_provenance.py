"""Which commit a result says that it is of."""

import subprocess

import pytest

from mqsa_jax.runs.provenance import commit_of


@pytest.fixture
def checkout(tmp_path):
    """A repository with a file of code and a result."""
    for name in ("code", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("1")
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    for command in (("init",), ("add", "."), (*who, "commit", "-m", "First")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    return tmp_path


def test_results_do_not_make_a_commit_dirty_but_code_does(checkout):
    clean = commit_of(checkout / "code")
    assert len(clean) >= 7 and "dirty" not in clean
    (checkout / "docs" / "file").write_text("2")
    assert commit_of(checkout / "code") == clean
    (checkout / "code" / "file").write_text("2")
    assert commit_of(checkout / "code") == f"{clean}-dirty"


def test_there_is_none_outside_a_checkout(tmp_path):
    assert commit_of(tmp_path) == "unknown"
