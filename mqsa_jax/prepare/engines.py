"""The engine that a name stands for."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mqsa_jax.prepare.engine import Engine


def engine_maker(
    name: Literal["duckdb", "spark"] = "duckdb", spark_url: str | None = None
) -> Callable[[Path], Engine]:
    """A function that makes the engine, which may write below a folder."""
    if name == "spark":
        from mqsa_jax.prepare.spark_engine import SparkEngine

        return lambda folder: SparkEngine(spark_url)
    from mqsa_jax.prepare.duckdb_engine import DuckDBEngine

    return DuckDBEngine
