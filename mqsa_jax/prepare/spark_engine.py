"""Apache Spark as the engine: a session of this process, a cluster's, or one by Spark Connect."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from mqsa_jax.errors import UserError
from mqsa_jax.prepare.columns import Columns
from mqsa_jax.prepare.engine import Engine
from mqsa_jax.prepare.input_files import SEPARATORS, InputFiles, is_remote

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_BAD = "_bad_record"
_BATCH_EVENTS = 1 << 22
"""Events that are brought to this process at a time, about."""


class SparkEngine(Engine):
    """A Spark session; the sorted events come to this process, which writes the folder."""

    name = "spark"

    def __init__(self, url: str | None = None, session: "SparkSession | None" = None):
        """Uses a session, or makes one.

        Args:
          url: a master (`local[4]`, `spark://…`, `yarn`) or a Spark Connect URL (`sc://…`); None:
            the session that is active or configured, or one on all cores of this machine.
          session: instead of `url`.

        Raises:
          UserError: if PySpark is not installed or Spark cannot be started.
        """
        self._own = session is None
        self._session = session or _session(url)
        self._session.conf.set("spark.sql.session.timeZone", "UTC")
        self._connection = ibis.pyspark.connect(self._session)
        self._frames: dict[str, DataFrame] = {}

    def close(self) -> None:
        """Lets go of all tables; ends the session if it was made here."""
        for name in list(self._frames):
            self.drop(name)
        if self._own:
            self._session.stop()

    def read(self, files: InputFiles, columns: Columns) -> ir.Table:
        """See `Engine.read`; rows have no numbers."""
        from pyspark.sql import functions

        frame = self._frame(files, columns)
        bad = functions.lit(None).cast("string")
        if _BAD in frame.columns:
            # Spark parses a column only if it is asked for: a bad record would pass unnoticed.
            frame = frame.cache()
            bad = functions.when(functions.col(_BAD).isNotNull(), "cannot be parsed")
        fixed = (
            functions.lit(None).cast("int").alias("file"),
            functions.lit(None).cast("long").alias("row"),
            bad.alias("problem"),
        )
        values = [_whole(frame, name).alias(role) for role, name in columns.present().items()]
        frame = frame.select(*fixed, *values)
        return self._table("rows", frame)

    def _frame(self, files: InputFiles, columns: Columns) -> "DataFrame":
        from pyspark.sql import types

        paths = [path if is_remote(path) else os.path.abspath(path) for path in files.paths]
        reader = self._session.read
        if files.format == "parquet":
            return reader.parquet(*paths)
        wanted = columns.present()
        names = tuple(wanted.values()) if files.format == "json" else files.names
        text, lists = types.StringType(), types.ArrayType(types.StringType())
        in_lists = {name for role, name in wanted.items() if columns.lists and role != "user"}
        fields = [
            types.StructField(name, lists if name in in_lists else text)
            for name in dict.fromkeys([*names, _BAD])
        ]
        reader = reader.schema(types.StructType(fields)).option("columnNameOfCorruptRecord", _BAD)
        reader = reader.option("mode", "PERMISSIVE")
        if files.format == "json":
            return reader.json(paths)
        quoted = files.format == "csv"
        return reader.csv(
            paths,
            sep=SEPARATORS[files.format],
            header=files.has_header,
            enforceSchema=True,
            quote='"' if quoted else "",
            escape='"' if quoted else "",
            multiLine=quoted,
            maxCharsPerColumn=-1,
        )

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.keep`."""
        # A checkpoint, as the plan of an iteration would grow with every round.
        return self._table(name, self._compiled(table).localCheckpoint())

    def _compiled(self, table: ir.Table) -> "DataFrame":
        return self._session.sql(self._connection.compile(table))

    def _table(self, name: str, frame: "DataFrame") -> ir.Table:
        self.drop(name)
        frame.createOrReplaceTempView(name)
        self._frames[name] = frame
        return self._connection.table(name)

    def drop(self, name: str) -> None:
        """See `Engine.drop`."""
        if frame := self._frames.pop(name, None):
            self._session.catalog.dropTempView(name)
            frame.unpersist()

    def values(self, table: ir.Table) -> pa.Table:
        """See `Engine.values`."""
        return self._compiled(table).toArrow()

    def sorted_events(
        self, coded: ir.Table, users: np.ndarray, counts: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """See `Engine.sorted_events`."""
        parts = np.cumsum(counts) // _BATCH_EVENTS
        for part in np.unique(parts):
            own = users[parts == part]
            chosen = coded.filter(coded.user.between(int(own[0]), int(own[-1])))
            ordered = chosen.order_by("user", "time", "item").select("user", "item", "time")
            yield from self.values(ordered).to_batches()


def _whole(frame: "DataFrame", name: str) -> "Column":
    """A column; null for text that was no UTF-8, which Spark has replaced, or holds a NUL."""
    from pyspark.sql import functions, types

    value = frame[f"`{name}`"]
    if not isinstance(frame.schema[name].dataType, types.StringType):
        return value
    broken = value.contains("\ufffd") | value.contains("\0")
    return functions.when(~broken, value)


def _session(url: str | None) -> "SparkSession":
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise UserError(
            "the engine spark needs PySpark: pip install 'mqsa-jax[spark]', and Java 17"
        ) from None
    builder = SparkSession.builder.appName("mqsa-jax prepare")
    if url is not None:
        builder = builder.remote(url) if url.startswith("sc://") else builder.master(url)
    cores = str(os.cpu_count() or 1)
    for name, value in {
        # A cluster's own configuration wins; these suit one machine.
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": cores,
    }.items():
        if url is None or url.startswith("local"):
            builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
        if not (url or "").startswith("sc://"):
            session.sparkContext.setLogLevel("ERROR")
        return session
    except (PySparkException, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"Spark cannot be started: {reason}; it needs Java 17") from None
