"""The map keeps neighbours together, and is kept in the run's folder."""

import time

import numpy as np
import pytest

pytest.importorskip("openTSNE")

from mqsa_jax.explore import item_map
from mqsa_jax.explore.item_map import FILE, ItemMap
from mqsa_jax.runs.run_directory import RunDirectory


@pytest.fixture
def clusters(rng):
    """[60, 6] vectors around three axes, of very different lengths."""
    centre = 8 * np.eye(6)[np.arange(60) % 3]
    return ((centre + rng.normal(size=(60, 6))) * rng.uniform(1, 50, (60, 1))).astype(np.float32)


def finished(made):
    made.start()
    for _ in range(600):
        status = made.status()
        assert status["error"] is None
        if status["steps"] == status["total"]:
            return made
        time.sleep(0.1)
    raise AssertionError("the map takes more than a minute")


def test_clusters_by_cosine_are_clusters_on_the_map(clusters, tmp_path):
    position_M2 = finished(ItemMap(RunDirectory(tmp_path), clusters, None)).positions()
    assert position_M2.dtype == np.float32 and np.abs(position_M2).max() <= 1
    distance_MM = np.linalg.norm(position_M2[:, None] - position_M2[None], axis=-1)
    np.fill_diagonal(distance_MM, np.inf)
    # The nearest one is of the same cluster.
    assert (distance_MM.argmin(axis=1) % 3 == np.arange(60) % 3).mean() > 0.95


def test_a_kept_map_is_taken_unless_the_vectors_changed(clusters, tmp_path, monkeypatch):
    run_dir = RunDirectory(tmp_path)
    first = finished(ItemMap(run_dir, clusters, None))
    for _ in range(100):
        if (tmp_path / FILE).exists():
            break
        time.sleep(0.1)
    monkeypatch.setattr(ItemMap, "_compute", lambda self: None)
    again = ItemMap(run_dir, clusters, None)
    again.start()
    assert again.status() == {"steps": 750, "total": 750, "count": 60, "error": None}
    np.testing.assert_allclose(again.positions(), first.positions(), atol=1e-6)
    for vectors, damage in ((2 * clusters, False), (clusters, True)):
        if damage:
            (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:200])
        other = ItemMap(run_dir, vectors, None)
        other.start()
        assert other.status()["steps"] == 0


def test_few_items_are_on_their_main_axes_at_once(tmp_path):
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]], np.float32)
    made = ItemMap(RunDirectory(tmp_path), vectors, None)
    made.start()
    assert made.status() == {"steps": 0, "total": 0, "count": 3, "error": None}
    # Two axes hold all of three points: distances are those of the vectors, up to one factor.
    distance = np.linalg.norm(made.positions()[:, None] - made.positions()[None], axis=-1)
    expected = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    np.testing.assert_allclose(distance / distance[0, 1], expected / expected[0, 1], atol=1e-5)
    assert not (tmp_path / FILE).exists()


def test_a_large_catalogue_shows_its_most_frequent_items(tmp_path, monkeypatch):
    monkeypatch.setattr(item_map, "MAX_ITEMS", 3)
    vectors = np.eye(5, dtype=np.float32)
    made = ItemMap(RunDirectory(tmp_path), vectors, np.array([1, 9, 3, 9, 4]))
    assert made.items.tolist() == [1, 3, 4]
    assert ItemMap(RunDirectory(tmp_path), vectors, None).items.tolist() == [0, 1, 2]


def test_a_failure_is_told_and_the_main_axes_stay(clusters, tmp_path, monkeypatch):
    made = ItemMap(RunDirectory(tmp_path), clusters, None)
    before = made.positions()
    monkeypatch.setattr(ItemMap, "_projected", lambda self: 1 / 0)
    made._compute()
    assert made.status()["error"] == "ZeroDivisionError: division by zero"
    np.testing.assert_array_equal(made.positions(), before)
