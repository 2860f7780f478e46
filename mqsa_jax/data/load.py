"""A data set by name or path, as histories."""

import os

from mqsa_jax.data.histories import Histories, read_histories
from mqsa_jax.data.sources import resolve_dataset
from mqsa_jax.data.synthetic import synthetic_histories


def load_histories(dataset: str, data_dir: str | os.PathLike[str] | None = None) -> Histories:
    """Finds, downloads or generates a data set, and reads it.

    Args:
        dataset: one of `dataset_names()` in any case, or the path of a file.
        data_dir: a folder that may hold the file.

    Raises:
        UserError: see `resolve_dataset` and `read_histories`.
    """
    path = resolve_dataset(dataset, data_dir)
    return synthetic_histories() if path is None else read_histories(path)
