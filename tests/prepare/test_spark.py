"""Spark gives what DuckDB gives, to the byte."""

import os
import shutil

import pytest

from mqsa_jax.prepare.dataset import prepare
from mqsa_jax.prepare.options import PrepareOptions
from tests.prepare.log_cases import prepared, random_events, without_engine, write_csv
from tests.prepare.test_prepare import write_formats

if "MQSA_REQUIRE_SPARK" not in os.environ:
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("no Java", allow_module_level=True)

ODD = (
    b'\xef\xbb\xbfuser_id,item_id,timestamp\n"u,1","i\n2",6\n\nu3,i3\nu4,i4,7,8\nu5,i5,soon\n'
    b',i6,9\nu7,"i""7",10\nu8,i\xff8,11\nu9,NaN,12\nu1,  ,13\nu1,i1,2017-07-14T04:40:00+02:00\n'
    b"u1,i1,2017-07-14T02:40:00\nu1,i1,1.5e9\n"
)


@pytest.fixture(scope="module")
def spark():
    """A session for all tests, as starting one takes long."""
    from mqsa_jax.prepare.spark_engine import _session

    # Spark's own use of pandas and of sockets warns.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        session = _session("local[2]")
    yield session
    session.stop()


def on_spark(session, path, folder, **options):
    from mqsa_jax.prepare.spark_engine import SparkEngine

    return prepare(
        [str(path)],
        folder,
        PrepareOptions(**options),
        lambda _: SparkEngine(session=session),
        say=lambda line: None,
    )


@pytest.mark.filterwarnings("ignore")
def test_every_format_gives_the_same_manifest(spark, tmp_path):
    events = sorted(set(random_events(5)))
    options = {"min_user": 3, "min_item": 3}
    expected = None
    for file in write_formats(tmp_path, events):
        folder = tmp_path / f"{file.name}_out"
        own = on_spark(spark, file, folder, **options)
        expected = expected or prepared(file, tmp_path / "expected", **options)
        assert own["engine"] == "spark"
        assert own["files"] == expected["files"], file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"keep_repeats": False, "min_user": 1, "min_item": 1},
        {"split": "time", "min_user": 3, "min_item": 2},
    ],
)
def test_options_give_the_same_manifest(spark, tmp_path, options):
    log = write_csv(tmp_path / "log.csv", random_events(9, users=20, events=300))
    own = on_spark(spark, log, tmp_path / "1", **options)
    assert without_engine(own) == without_engine(prepared(log, tmp_path / "2", **options))


@pytest.mark.filterwarnings("ignore")
def test_malformed_rows_are_the_same(spark, tmp_path):
    log = tmp_path / "odd.csv"
    log.write_bytes(ODD)
    options = {"min_user": 1, "min_item": 1}
    own = on_spark(spark, log, tmp_path / "1", **options)
    assert {"step": "malformed rows dropped", "rows": 7} in own["steps"]
    assert without_engine(own) == without_engine(prepared(log, tmp_path / "2", **options))
