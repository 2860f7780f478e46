"""Lists by an approximate index: at few items they are the exact ones."""

import dataclasses
import os

import numpy as np
import pytest

import mqsa_jax
from mqsa_jax import extras
from mqsa_jax.errors import UserError
from mqsa_jax.export.approximate_lists import IndexedRun, _among, _distinct, _largest, _term_at
from mqsa_jax.export.item_index import ItemIndex
from mqsa_jax.export.writing import export_run
from tests.export.models import HISTORIES


@pytest.mark.parametrize("library", ["usearch", "faiss"])
@pytest.mark.parametrize("name", ["mqsa-ted", "mqsa-ted-plus"])
def test_lists_and_scores_are_exact_where_the_index_misses_nothing(models, tmp_path, library, name):
    if "MQSA_REQUIRE_EXPORTS" not in os.environ:
        pytest.importorskip(library)
    export_run(models[name], tmp_path / "export", index=library)
    run = mqsa_jax.load_model(tmp_path / "export", approximate=True)
    assert isinstance(run, IndexedRun)
    histories = [*HISTORIES, []]
    for options in ({}, {"exclude_seen": "none"}, {"deny": [20]}):
        ours = run.recommend(histories, 7, unknown="skip", **options)
        theirs = models[name].recommend(histories, 7, unknown="skip", **options)
        for mine, other in zip(ours, theirs, strict=True):
            assert [item for item, _ in mine] == [item for item, _ in other]
            scores = [[score or 0 for _, score in each] for each in (mine, other)]
            np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)


class OneItem(ItemIndex):
    """An index that finds an item and misses all others."""

    def candidates(self, user_BD, count):
        return np.full((len(user_BD), 1), 5)


def test_items_of_the_term_are_candidates_beside_those_of_the_index(models):
    run = models["mqsa-ted-plus"]
    parts = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    (listed,) = IndexedRun(**parts, index=OneItem()).recommend([[40, 80]], 30)
    rows = run.relations.neighbours
    near = {int(j) for i in (3, 7) for j, w in zip(rows.item[i], rows.weight[i], strict=True) if w}
    assert {item for item, _ in listed} == {10 * (i + 1) for i in (near | {5}) - {3, 7}}
    exact = dict(run.recommend([[40, 80]], 30)[0])
    assert all(score == pytest.approx(exact[item], rel=1e-4) for item, score in listed)


def test_rows_are_merged_by_visible_arithmetic():
    item = _distinct(np.array([[4, 2, 4, -1], [0, 0, 0, 3]]))
    assert item.tolist() == [[-1, 2, 4, -1], [0, -1, -1, 3]]
    seen = np.array([[2, -1], [4, 0]])
    assert _among(item, seen).tolist() == [[False, True, False, False], [True, False, False, False]]
    term = _term_at(item, np.array([[4, 4], [1, 3]]), np.array([[1.0, 2.0], [8.0, 0.5]]))
    assert term.tolist() == [[0, 0, 3, 0], [0, 0, 0, 0.5]]
    best, score = _largest(np.array([[7, 3, 5]]), np.array([[1.0, 1.0, -np.inf]]), 4)
    assert best.tolist() == [[3, 7, -1, -1]] and score[0, :2].tolist() == [1, 1]


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--index faiss needs faiss: pip install 'mqsa-jax\[faiss\]'"
    ):
        extras.check_extra("faiss", "--index faiss")
