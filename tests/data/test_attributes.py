"""Lists of attributes, made of columns of values."""

import numpy as np
import pytest

from mqsa_jax.data.attributes import Column, combined_fingerprint, encode, joined_attributes
from mqsa_jax.data.ids import STRING

ITEMS = np.array([10, 20, 30, 40])
ALL = np.ones(4, bool)


def categories(name, **values):
    """A column by item, as `i10="a"`, or several values between spaces."""
    pairs = [(int(item[1:]), each) for item, text in values.items() for each in text.split()]
    return Column(name, [item for item, _ in pairs], [each for _, each in pairs], is_number=False)


def numbers(name, **values):
    owners = [int(item[1:]) for item in values]
    return Column(name, owners, list(map(float, values.values())), is_number=True)


def lists(attributes):
    """Names of each item's attributes."""
    starts = attributes.row_start
    return [
        [attributes.names[a] for a in attributes.attribute[begin:end]]
        for begin, end in zip(starts, starts[1:], strict=False)
    ]


def test_an_item_has_each_attribute_once_and_weights_go_by_their_number():
    tags = categories("tag", i10="a b a", i30="b", i40="a b")
    color = categories("color", i10="a", i40="a")
    attributes = encode([tags, color], ITEMS, ALL, bins=10, power=0.5).attributes
    assert lists(attributes) == [
        ["tag = a", "tag = b", "color = a"],
        [],
        ["tag = b"],
        ["tag = a", "tag = b", "color = a"],
    ]
    expected = [3**-0.5] * 3 + [1] + [3**-0.5] * 3
    np.testing.assert_allclose(attributes.weight, expected, rtol=1e-6)
    mean = encode([tags, color], ITEMS, ALL, bins=10, power=1.0).attributes
    np.testing.assert_allclose(mean.weight, [1 / 3] * 3 + [1] + [1 / 3] * 3, rtol=1e-6)


def test_what_one_item_alone_has_and_what_none_that_trains_has_is_left_out():
    tags = categories("tag", i10="a b", i20="a c", i30="c d", i40="d")
    trains = np.array([True, True, False, False])
    encoded = encode([tags], ITEMS, trains, bins=10, power=0.5)
    # b: one item alone; d: two, neither of which trains; c: two, one of which does.
    assert lists(encoded.attributes) == [["tag = a"], ["tag = a", "tag = c"], ["tag = c"], []]
    assert encoded.num_rare == 2


def test_items_that_the_data_do_not_have_are_counted_once_each():
    tags = categories("tag", i10="a", i20="a", i99="a b", i98="a")
    sizes = categories("size", i99="s", i40="s")
    encoded = encode([tags, sizes], ITEMS, ALL, bins=10, power=0.5)
    assert (encoded.num_known, encoded.num_unknown) == (3, 2)


def test_numbers_are_cut_at_quantiles_of_the_items_that_train():
    ids = np.arange(8)
    # Two bins of the six that train, 1 2 3 | 4 5 6: the border is the least number above the half.
    price = Column(
        "price", ids.tolist(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1e308, 1e308], is_number=True
    )
    trains = np.array([True] * 6 + [False] * 2)
    attributes = encode([price], ids, trains, bins=2, power=0.5).attributes
    low, high = "price in [-inf, 4)", "price in [4, inf)"
    assert lists(attributes) == [[low]] * 3 + [[high]] * 3 + [[low], [high]]


def test_equal_numbers_share_a_bin_and_missing_ones_have_none():
    price = numbers("price", i10=2, i20=2, i30=2)
    attributes = encode([price], ITEMS, ALL, bins=10, power=0.5).attributes
    assert lists(attributes) == [["price in [-inf, inf)"]] * 3 + [[]]


def test_ids_are_those_of_the_data_be_they_numbers_or_text():
    tags = Column("tag", ["10", 20, "x", -4], ["a"] * 4, is_number=False)
    encoded = encode([tags], ITEMS, ALL, bins=10, power=0.5)
    assert lists(encoded.attributes)[:2] == [["tag = a"]] * 2 and encoded.num_unknown == 2
    names = np.array(["007", "7"], STRING)
    tags = Column("tag", ["007", 7], ["a", "a"], is_number=False)
    assert lists(encode([tags], names, ALL[:2], bins=10, power=0.5).attributes) == [
        ["tag = a"],
        ["tag = a"],
    ]


@pytest.fixture
def attributes():
    tags = categories("tag", i10="a b", i30="b", i40="a b")
    return encode([tags], ITEMS, ALL, bins=10, power=1.0).attributes


def test_rows_are_chosen_joined_and_filled_up(attributes):
    some = attributes.of_rows(np.array([3, 3, 1]))
    assert lists(some) == [["tag = a", "tag = b"]] * 2 + [[]]
    assert lists(attributes.of_rows(np.array([False, False, True, False]))) == [["tag = b"]]
    assert lists(joined_attributes([some, attributes])) == lists(some) + lists(attributes)
    assert lists(some.filled_up(5)) == [*lists(some), [], []]
    index, weight = some.padded(3)
    assert index.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert weight.tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]]


def test_the_fingerprint_is_that_of_the_content(attributes):
    again = encode(
        [categories("tag", i40="b a", i10="b a", i30="b")], ITEMS, ALL, bins=10, power=1.0
    ).attributes
    assert again.fingerprint() == attributes.fingerprint()
    fingerprints = {attributes.fingerprint()}
    for tags, power in (
        (categories("tag", i10="a b", i30="a", i40="a b"), 1.0),
        (categories("tug", i10="a b", i30="b", i40="a b"), 1.0),
        (categories("tag", i10="a b", i30="b", i40="a b"), 0.5),
    ):
        other = encode([tags], ITEMS, ALL, bins=10, power=power).attributes
        fingerprints.add(other.fingerprint())
    assert len(fingerprints) == 4
    assert combined_fingerprint("data", None, None) == "data"
    both = {combined_fingerprint("data", attributes, None)}
    both.add(combined_fingerprint("data", None, attributes))
    both.add(combined_fingerprint("else", attributes, None))
    assert len(both | {"data"}) == 4
