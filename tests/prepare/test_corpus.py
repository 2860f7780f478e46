"""Damaged and odd files: an error of one line, or every row kept or counted; never anything else.

`corpus/expected.json` has for each file the error, or its rows, the malformed ones, and what is
left. Each entry was read when it was made.
"""

import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mqsa_jax.errors import UserError
from tests.prepare.log_cases import prepared, read_back

CORPUS = Path(__file__).parent / "corpus"
EXPECTED = json.loads((CORPUS / "expected.json").read_text(encoding="utf-8"))


def outcome(path, folder):
    """What preparing a file comes to."""
    try:
        manifest = prepared(path, folder, min_user=1, min_item=1)
    except UserError as error:
        assert "\n" not in str(error)
        assert not folder.exists()
        return {"error": str(error).replace(f"{path.parent}/", "")}
    steps = {step["step"]: step for step in manifest["steps"]}
    return {
        "rows": steps["read"]["rows"],
        "malformed": steps.get("malformed rows dropped", {"rows": 0})["rows"],
        "histories": {
            str(user): [list(pair) for pair in row] for user, row in read_back(folder).items()
        },
    }


def test_the_corpus_is_whole():
    names = {path.name for path in CORPUS.iterdir()} - {"expected.json"}
    assert names == EXPECTED.keys() and len(names) >= 60


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_file_of_the_corpus(name, tmp_path):
    assert outcome(CORPUS / name, tmp_path / "out") == EXPECTED[name]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])


FIELDS = st.one_of(
    st.sampled_from(
        ["u1", "a", "1", "1500000000", "", " ", "NaN", '"', '""', '"a,b"', "2023-01-01"]
    ),
    st.text(string.printable, max_size=4),
)
LINES = st.lists(st.lists(FIELDS, min_size=1, max_size=4).map(",".join), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]))
@example(lines=['u1,"a', "u2,b,2"], end="\n")
def test_any_text_is_refused_or_counted(lines, end, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "log.csv"
    path.write_text(end.join(["user,item,time", *lines]), newline="")
    result = outcome(path, folder / "out")
    if "error" not in result:
        kept = {
            (user, item, time) for user, row in result["histories"].items() for item, time in row
        }
        # Duplicates are dropped: each event that is left has a row at least.
        assert len(kept) <= result["rows"] - result["malformed"]
        assert kept


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(["user", "item", "time"], JSON_VALUES)),
        max_size=6,
    ),
    cut=st.integers(0, 5),
)
def test_any_json_is_refused_or_counted(rows, cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "log.jsonl"
    first = {"user": "u", "item": "i", "time": 1}
    text = "\n".join(json.dumps(row) for row in [first, *rows])
    path.write_text(text[: len(text) - cut] if rows else text)
    result = outcome(path, folder / "out")
    # Not its time: a large number beside it makes the unit another one.
    assert "error" in result or "i" in [item for item, _ in result["histories"]["u"]]
