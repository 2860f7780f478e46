"""The comparison of starts: its data, how it reads validation, and its page, no number by hand."""

import json

import numpy as np
import pytest

from benchmarks import going_on
from benchmarks.going_on import first_epoch, first_halves, page
from mqsa_jax.data.histories import make_histories


def test_first_halves_hold_no_target_of_the_whole():
    rows = [[1, 2, 3], [1, 2, 3, 4], [5, 6, 7, 8, 9], list(range(10, 21))]
    halves = first_halves(make_histories([4, 3, 2, 1], rows))
    # Too short for three items that are not the last two.
    assert halves.user_ids.tolist() == [2, 1]
    kept = np.split(halves.item_ids[halves.items], halves.offsets[1:-1])
    assert [row.tolist() for row in kept] == [[5, 6, 7], [10, 11, 12, 13, 14]]


def test_first_epoch():
    assert first_epoch([0.1, 0.3, 0.2, 0.4], 0.3) == 2
    assert first_epoch([0.1], 0.3) is None


def test_a_row_tells_when_a_start_reaches_the_best_from_nothing(tmp_path, monkeypatch):
    common = {"data": "toys", "seed": 1, "users": 5, "items": 9, "best_epoch": 2, "seconds": 3.4}
    common |= {"test_HR@20": 0.1, "test_NDCG@20": 0.05, "test_MRR": 0.03}
    validation = {"half": [0.01], "nothing": [0.1, 0.2], "half's run": [0.19, 0.18]}
    rows = [common | {"start": start, "valid_NDCG@20": v} for start, v in validation.items()]
    rows[2] |= {"carried_over": 7, "from_neighbours": 1, "from_nothing": 1}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    monkeypatch.setattr(going_on, "RESULTS", tmp_path / "rows.json")
    table = [line for line in page().splitlines() if line.startswith("| 1 |")]
    assert [line.split(" | ")[2:4] for line in table] == [["", ""], ["2", "2"], ["1", "never"]]


@pytest.mark.skipif(not going_on.RESULTS.exists(), reason="no results yet")
def test_the_page_is_up_to_date():
    assert going_on.PAGE.read_text() == page()
