"""Raw logs to prepared data sets, by Ibis expressions that run on DuckDB and on Spark."""
