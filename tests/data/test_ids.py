"""Ids of two kinds, kept as they are."""

import numpy as np
import pytest

from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.ids import Lookup, as_ids, from_stored, is_text, to_plain, to_stored

TEXT = ["b", 'é,\n"', "a" * 1000, "007", "😀"]


@pytest.mark.parametrize("values", [[3, 0, 2**63 - 1], TEXT, np.array(["x", "yy"])])
def test_ids_are_stored_and_read_back(values):
    ids = as_ids(values, "items")
    assert from_stored(to_stored(ids)).tolist() == list(values)
    assert to_plain(ids).tolist() == list(values)
    assert to_stored(ids).dtype == to_plain(ids).dtype or is_text(ids)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1, "1"], "'1' is no integer"),
        (["1", 1], "1 is no string"),
        ([True], "True is no integer"),
        ([None], "None is no integer"),
        (["a", ""], "is no id"),
        (["a\0"], "is no id"),
        ([-1], "not between"),
        ([2**63], "not between"),
    ],
)
def test_what_is_no_id_is_refused(values, problem):
    with pytest.raises(ValueError, match=problem):
        as_ids(values, "items")


def test_histories_of_strings():
    histories = make_histories(["u", "t"], [["B", "a", "B"], ["é", "a", "Z"]])
    assert histories.item_ids.tolist() == ["B", "Z", "a", "é"]
    assert histories.items.tolist() == [0, 2, 0, 3, 2, 1]
    assert histories.user_ids.tolist() == ["u", "t"]
    other = make_histories(["u", "t"], [["B", "a", "B"], ["e", "a", "Z"]])
    assert histories.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("kind", [str, int])
def test_indices_of_ids_of_any_length(rng, kind):
    """NumPy stores strings of 16 bytes or more otherwise than shorter ones."""
    names = [str(number) * (1 + number % 9) for number in rng.permutation(10**4)[:500].tolist()]
    names = names if kind is str else sorted({int(name[:15]) for name in names})
    vocabulary, others = names[::2], names[1::2]
    lookup = Lookup(as_ids(vocabulary, "items"))
    assert lookup.indices(as_ids(vocabulary, "items")).tolist() == list(range(len(vocabulary)))
    assert set(lookup.indices(as_ids(others, "items")).tolist()) == {-1}
    mixed = as_ids([names[1], names[2], names[0]], "items")
    assert lookup.indices(mixed).tolist() == [-1, 1, 0]
    assert Lookup(as_ids([], "items")).indices(as_ids([5], "items")).tolist() == [-1]
