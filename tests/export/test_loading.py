"""Exports read again: they are the run, and what is damaged or of another kind is refused."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import mqsa_jax
from mqsa_jax.errors import DataError, UserError
from tests.export.models import HISTORIES, NAMES


@pytest.fixture(scope="module", params=NAMES)
def pair(request, models, exports):
    """A model, and its export loaded."""
    return models[request.param], mqsa_jax.load_model(exports / request.param)


def test_an_export_scores_and_recommends_as_its_run(pair):
    run, loaded = pair
    np.testing.assert_allclose(loaded.score(HISTORIES), run.score(HISTORIES), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        loaded.recommend(HISTORIES, 5), run.recommend(HISTORIES, 5), strict=True
    ):
        assert [item for item, _ in ours] == [item for item, _ in theirs]
    assert loaded.epoch == run.epoch and loaded.item_ids.tolist() == run.item_ids.tolist()
    assert loaded.config.model == run.config.model and loaded.config.dataset == "shop.txt"


@pytest.mark.parametrize("name", ["mqsa-ted-plus", "gat"])
def test_vectors_reasons_and_popular_items_are_those_of_the_run(models, exports, name):
    run, loaded = models[name], mqsa_jax.load_model(exports / name)
    np.testing.assert_allclose(loaded.item_vectors(), run.item_vectors(), rtol=1e-6)
    np.testing.assert_allclose(
        loaded.user_vectors(HISTORIES), run.user_vectors(HISTORIES), rtol=1e-5, atol=1e-5
    )
    assert [i for i, _ in loaded.similar(20, 3)] == [i for i, _ in run.similar(20, 3)]
    (ours,), (theirs,) = (each.recommend([[10, 20]], 2, explain=True) for each in (loaded, run))
    assert [(r.item, r.transitions) for r in ours] == [(r.item, r.transitions) for r in theirs]
    empty = [each.recommend([[]], 3, unknown="skip") for each in (loaded, run)]
    assert empty[0] == empty[1] and len(empty[0][0]) == 3


def test_an_export_knows_the_data_it_was_made_on(models, exports):
    loaded = mqsa_jax.load_model(exports / "mqsa-ted")
    loaded.check_data(models["mqsa-ted"].data_fingerprint)
    with pytest.raises(DataError, match="fingerprints differ"):
        loaded.check_data("another")


@pytest.fixture
def copy(exports, tmp_path):
    """A copy of an export, to be damaged."""
    return shutil.copytree(exports / "mqsa-ted-plus", tmp_path / "export")


def sign(folder):
    """Writes the checksums anew, by an independent count."""
    names = [path.name for path in folder.iterdir() if path.name not in ("README.md", "SHA256SUMS")]
    (folder / "SHA256SUMS").write_text(
        "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    )


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "model.stablehlo", "vocabulary.parquet"],
)
def test_a_flipped_bit_or_a_missing_file_is_told(copy, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: (damaged|not readable)"):
        mqsa_jax.load_model(copy)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: (missing|no such file)"):
        mqsa_jax.load_model(copy)


def test_missing_or_broken_checksums_are_told(copy):
    (copy / "SHA256SUMS").write_text("abc\n")
    with pytest.raises(UserError, match="SHA256SUMS: not a list of checksums"):
        mqsa_jax.load_model(copy)
    (copy / "SHA256SUMS").write_text("abc  ../other\n")
    with pytest.raises(UserError, match="outside the folder"):
        mqsa_jax.load_model(copy)
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="SHA256SUMS: missing"):
        mqsa_jax.load_model(copy)


def test_the_card_may_be_edited(copy):
    (copy / "README.md").write_text("---\nlicense: mit\n---\n")
    assert mqsa_jax.load_model(copy).score(HISTORIES).shape == (3, 30)


def test_another_version_of_the_format_is_refused(copy):
    stored = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(stored | {"format_version": 2}))
    sign(copy)
    with pytest.raises(UserError, match="format version 2 is unknown, this is 1"):
        mqsa_jax.load_model(copy)


@pytest.mark.parametrize("kept", [29, 0])
def test_a_vocabulary_of_another_size_is_refused(copy, kept):
    table = pa.parquet.read_table(copy / "vocabulary.parquet")
    pa.parquet.write_table(table[:kept], copy / "vocabulary.parquet")
    sign(copy)
    with pytest.raises(UserError, match=f"vocabulary.parquet has {kept} items.* has 30"):
        mqsa_jax.load_model(copy)


def test_a_vocabulary_out_of_order_is_refused(copy):
    table = pa.parquet.read_table(copy / "vocabulary.parquet")
    pa.parquet.write_table(table.take(list(range(30))[::-1]), copy / "vocabulary.parquet")
    sign(copy)
    with pytest.raises(UserError, match="not 0 to V - 1 in order"):
        mqsa_jax.load_model(copy)


def test_ids_that_are_strings_come_back(models, tmp_path):
    import dataclasses

    from mqsa_jax.data.ids import as_ids
    from mqsa_jax.export.writing import export_run

    names = [f"Bücher-{n:02}" for n in range(30)]
    run = dataclasses.replace(models["popular"], item_ids=as_ids(names, "items"))
    export_run(run, tmp_path / "export")
    assert mqsa_jax.load_model(tmp_path / "export").item_ids.tolist() == names


def test_a_run_has_no_index_and_an_empty_folder_no_model(exports, tmp_path):
    with pytest.raises(UserError, match="has no index; export the run with --index"):
        mqsa_jax.load_model(exports / "mqsa-ted", approximate=True)
    with pytest.raises(UserError, match="no export, so that there is no index"):
        mqsa_jax.load_model(tmp_path, approximate=True)
    with pytest.raises(UserError, match="is this the folder of a run"):
        mqsa_jax.load_model(tmp_path)
