"""The comparison of attributes, and items taken out of the histories; no figure by hand."""

import importlib
import json

import numpy as np
import pytest

from benchmarks import attributes, cold_items
from mqsa_jax.data.histories import make_histories


def test_shuffled_lists_are_the_same_lists_of_other_items(tmp_path):
    lists = {str(item): [item, item + 1][: 1 + item % 2] for item in range(50)}
    (tmp_path / "a.json").write_text(json.dumps(lists))
    out = attributes.shuffled(tmp_path / "a.json", tmp_path / "work" / "b.json")
    moved = json.loads(out.read_text())
    assert moved.keys() == lists.keys() and sorted(moved.values()) == sorted(lists.values())
    assert sum(moved[item] == lists[item] for item in lists) < 10


def test_items_taken_out_are_looked_for_after_what_is_left_before_them():
    histories = make_histories([4, 3], [[1, 2, 9, 3, 9, 4], [9, 1, 5]])
    left, queries = cold_items.split(histories, {9})
    assert left.user_ids.tolist() == [4]
    assert left.item_ids[left.items].tolist() == [1, 2, 3, 4]
    # Nothing stands before the first 9 of user 3.
    assert queries == [([1, 2], 9), ([1, 2, 3], 9)]


def test_figures_beside_chance():
    figures = cold_items.figures(np.array([1.0, 30.0]), 40)
    assert figures["HR@20"] == 0.5 and figures["NDCG@20"] == 0.5
    np.testing.assert_allclose(figures["MRR"], (1 + 1 / 30) / 2)
    np.testing.assert_allclose(figures["mean_percentile"], 29 / 39 / 2)
    assert figures["chance_HR@20"] == 0.5 and figures["chance_mean_percentile"] == 0.5
    np.testing.assert_allclose(figures["chance_MRR"], sum(1 / n for n in range(1, 41)) / 40)


def test_a_share_of_the_described_items_is_drawn_by_the_seed():
    histories = make_histories([1], [list(range(1, 101))])
    described = set(range(1, 81))
    one, again, other = (cold_items.taken_out(histories, described, seed) for seed in (1, 1, 2))
    assert len(one) == 4 and one <= described and one == again and one != other


def test_the_page_has_means_over_seeds_by_data_model_and_variant(monkeypatch):
    monkeypatch.syspath_prepend(attributes.ROOT / "docs")
    build_attributes = importlib.import_module("build_attributes")
    common = {"data": "toys", "model": "mqsa-ted", "test_HR@20": 0.1, "test_MRR": 0.03}
    common |= {"valid_NDCG@20": 0.2}
    rows = [
        common | {"variant": "none", "seed": 1, "epoch": 9, "test_NDCG@20": 0.04},
        common | {"variant": "both", "seed": 1, "epoch": 2, "test_NDCG@20": 0.05},
        common | {"variant": "both", "seed": 2, "epoch": 4, "test_NDCG@20": 0.07},
    ]
    page = build_attributes.results(rows).splitlines()
    assert [line for line in page if line.startswith("| Toys")] == [
        "| Toys | MQSA-TED | none | 1 | 9 | 0.2000 | 0.1000 | 0.0400 | 0.0300 |",
        "| Toys | MQSA-TED | both | 2 | 3 | 0.2000 | 0.1000 | 0.0600 | 0.0300 |",
    ]


@pytest.mark.parametrize("given", [None, "/secret/data/items.json"])
def test_kept_runs_name_no_folder_of_the_machine(tmp_path, given):
    folder = tmp_path / "work" / "run"
    folder.mkdir(parents=True)
    texts = {"config.json": {"item_attributes": given, "run_dir": str(folder)}}
    texts["test_metrics.json"] = {"command": [f"--run-dir={folder}", f"--item-attributes={given}"]}
    for file in attributes.KEPT_FILES:
        (folder / file).write_text(json.dumps(texts.get(file, {})))
    attributes.keep(folder, tmp_path / "kept")
    kept = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert kept == {"item_attributes": given and "items.json", "run_dir": "runs/run"}
    text = (tmp_path / "kept" / "test_metrics.json").read_text()
    assert "--run-dir=runs/run" in text and "secret" not in text
