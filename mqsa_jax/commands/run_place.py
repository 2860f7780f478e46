"""Where a run's data lie, and which devices work: full paths, and files that have moved since."""

import dataclasses
import os
from typing import Protocol, runtime_checkable

from mqsa_jax.config import Config, ShardItems
from mqsa_jax.data.sources import check_dataset, dataset_names
from mqsa_jax.errors import UserError
from mqsa_jax.prepare.cache import is_raw_log, prepared_in_cache


def with_full_path(config: Config) -> Config:
    """The configuration with full paths, and a data set's name in lower case.

    A raw log is prepared into the user's cache on the way.

    Raises:
      UserError: if there is no such name or file, or the log cannot be prepared.
    """
    training, source = config.training, config.training.init_from
    if source is not None:
        training = dataclasses.replace(training, init_from=os.path.abspath(source))
    attributes = config.attributes.with_full_paths()
    return dataclasses.replace(
        config, dataset=_full_path(config.dataset), training=training, attributes=attributes
    )


def _full_path(dataset: str) -> str:
    if dataset.lower() in dataset_names():
        return dataset.lower()
    if is_raw_log(dataset):
        return str(prepared_in_cache(dataset, lambda line: print(line, flush=True)))
    check_dataset(dataset)
    return os.path.abspath(dataset)


@runtime_checkable
class Place(Protocol):
    """Flags of a command that say where a run's data lie now, and which devices work."""

    dataset: str | None
    """File of the run's data; None: as in training."""
    data_dir: str | None
    """Folder of the data files; None: as in training."""
    item_attributes: str | None
    """File of the items' attributes; None: as in training."""
    user_traits: str | None
    """File of the users' traits; None: as in training."""
    devices: int | None
    mesh: str
    shard_items: ShardItems


def with_place(config: Config, place: Place) -> Config:
    """A run's configuration, with data and devices as they are now.

    Raises:
      UserError: if there is no such data set.
    """
    run = dataclasses.replace(
        config.run,
        data_dir=place.data_dir or config.run.data_dir,
        devices=place.devices,
        mesh=place.mesh,
        shard_items=place.shard_items,
        parallel="jit",
    )
    attributes = config.attributes.moved(place.item_attributes, place.user_traits)
    config = dataclasses.replace(
        config, run=run, dataset=place.dataset or config.dataset, attributes=attributes
    )
    config.validate()
    try:
        return with_full_path(config)
    except UserError as error:
        raise UserError(f"{error}; --dataset names the file where it lies now") from None
