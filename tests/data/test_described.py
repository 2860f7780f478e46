"""Data sets with attributes: cold items, traits, what is told and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from mqsa_jax.attribute_settings import AttributesConfig
from mqsa_jax.data.described import with_attributes
from mqsa_jax.data.histories import make_histories
from mqsa_jax.errors import UserError

DATA = make_histories([7, 8], [[10, 20, 10, 30], [20, 30, 40]])


def described(tmp_path, data=DATA, traits=None, **lists):
    settings = AttributesConfig(cold_items=True, attribute_power=1.0)
    for flag, content in (("item_attributes", lists), ("user_traits", traits)):
        if content:
            path = tmp_path / f"{flag}.json"
            path.write_text(json.dumps(content))
            settings = dataclasses.replace(settings, **{flag: str(path)})
    return with_attributes(data, settings, max_len=5)


ITEMS = {"10": [1, 2], "20": [1], "90": [1], "50": [2, 3], "nan": [1]}


def test_cold_items_stand_behind_the_others_and_change_no_index(tmp_path):
    with pytest.warns(UserWarning, match=r"skipped 1 items that .* not have and 1 values"):
        data = described(tmp_path, **ITEMS)
    assert data.item_ids.tolist() == [10, 20, 30, 40, 50, 90] and data.num_cold == 2
    np.testing.assert_array_equal(data.items, DATA.items)
    names = [data.attributes.names[a] for a in data.attributes.attribute]
    assert np.split(names, data.attributes.row_start[1:-1])[4].tolist() == ["attribute = 2"]
    assert data.attributes.lengths.tolist() == [2, 1, 0, 0, 1, 1]


def test_fingerprints_tell_what_differs(tmp_path):
    with pytest.warns(UserWarning):
        one = described(tmp_path, **ITEMS)
        other = described(tmp_path, **ITEMS | {"20": [2]})
    assert one.fingerprint() == other.fingerprint() != DATA.fingerprint()
    assert one.inputs_fingerprint() != other.inputs_fingerprint()
    assert DATA.inputs_fingerprint() == DATA.fingerprint()


def test_traits_go_with_their_users(tmp_path):
    three = make_histories([7, 8, 9], [[10, 20, 10, 30], [20, 30, 40, 10], [10, 20, 30, 40]])
    with pytest.warns(UserWarning, match="2 of 3 users have some of 1 attributes"):
        data = described(tmp_path, three, traits={"9": "x", "8": "x"})
    assert data.traits.lengths.tolist() == [0, 1, 1]
    kept = data.of_users(np.array([True, False, True]))
    assert kept.traits.lengths.tolist() == [0, 1] and kept.user_ids.tolist() == [7, 9]


@pytest.mark.parametrize(
    ("lists", "message"),
    [({"10": [1], "20": [2]}, "describes 2 items of the data, of which no two share"),
     ({"10": []}, "describes 0 items of the data")],
)  # fmt: skip
def test_files_that_tell_nothing_are_refused(tmp_path, lists, message):
    with pytest.raises(UserError, match=message):
        described(tmp_path, **lists)
