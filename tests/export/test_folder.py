"""How an export appears: whole, in a folder of its own, or not at all."""

import datetime
import subprocess

import pytest

from mqsa_jax.errors import FolderError, UserError
from mqsa_jax.export import writing
from mqsa_jax.export.compatibility import guarantee
from mqsa_jax.export.folder import ExportFolder, new_folder
from mqsa_jax.export.writing import export_run


def test_the_checksums_are_those_of_sha256sum(exports):
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"],
        cwd=exports / "popular",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "model.safetensors: OK" in done.stdout and "README.md" not in done.stdout


def test_an_export_is_replaced_only_if_asked(models, tmp_path):
    output = tmp_path / "export"
    output.mkdir()
    export_run(models["popular"], output)
    digest = ExportFolder(output).digest
    with pytest.raises(FolderError, match="holds an export; --replace replaces it"):
        export_run(models["mqsa-ted"], output)
    assert ExportFolder(output).digest == digest
    export_run(models["transition-paths"], output, replace=True)
    assert ExportFolder(output).digest != digest
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_other_things_are_never_replaced(models, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match="holds other things; name a new folder"):
        export_run(models["popular"], tmp_path, replace=True)
    with pytest.raises(FolderError, match="is a file"):
        export_run(models["popular"], tmp_path / "notes.txt")
    export_run(models["popular"], tmp_path / "export")
    (tmp_path / "export" / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"other things \(mine.txt\)"):
        export_run(models["popular"], tmp_path / "export", replace=True)
    assert (tmp_path / "export" / "mine.txt").read_text() == "mine"


def test_an_export_that_fails_leaves_the_former_one(models, tmp_path, monkeypatch):
    export_run(models["popular"], tmp_path / "export")
    digest = ExportFolder(tmp_path / "export").digest

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "stablehlo", fail)
    for name in ("export", "other"):
        with pytest.raises(OSError, match="No space left"):
            export_run(models["popular"], tmp_path / name, replace=True)
    assert ExportFolder(tmp_path / "export").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_draft_is_no_export_until_it_is_whole(tmp_path):
    with new_folder(tmp_path / "export", replace=False) as draft:
        (draft / "config.json").write_text("{}")
        assert not (tmp_path / "export").exists()
    assert (tmp_path / "export" / "config.json").read_text() == "{}"
    assert (tmp_path / "export").stat().st_mode & 0o055 == 0o055


def test_a_counted_model_has_no_vectors_to_index(models, tmp_path):
    with pytest.raises(UserError, match="popular is counted: it has no item vectors to index"):
        export_run(models["popular"], tmp_path / "export", index="usearch")
    assert not (tmp_path / "export").exists()


def test_dates_of_the_guarantee_are_six_months_and_three_weeks():
    dates = guarantee("0.11.1")
    assert dates["jax_released"] == "2026-08-17"
    assert dates["loads_in_jax_released_from"] == "2026-07-27"
    assert dates["loads_in_jax_released_until"] == "2027-02-17"
    released = datetime.date.fromisoformat(dates["jax_released"])
    first = datetime.date.fromisoformat(dates["loads_in_jax_released_from"])
    assert (released - first).days == 21
    unknown = guarantee("9.9.9")
    assert unknown["jax_released"] is None and unknown["loads_in_jax_released_until"] is None
    assert unknown["guarantee"] == dates["guarantee"]
