"""All that the page shows of one run, put together once at the start."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mqsa_jax.config import Config
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Ids
from mqsa_jax.data.sources import load_dataset
from mqsa_jax.errors import UserError
from mqsa_jax.explore.attributes import Attribute, Numbers, read_attributes
from mqsa_jax.explore.catalogue import Catalogue, titles_of
from mqsa_jax.explore.item_map import ItemMap
from mqsa_jax.explore.model_lists import ModelLists
from mqsa_jax.explore.options import ExploreOptions
from mqsa_jax.explore.training_record import training_record
from mqsa_jax.explore.users import Users
from mqsa_jax.inference.loaded_run import TrainedRun, load_run
from mqsa_jax.models.registry import MODELS
from mqsa_jax.runs.run_directory import RunDirectory

POPULARITY = "popularity"
"""Attribute that every run has: how often an item occurs in training."""
NEIGHBOURS = 10
"""Nearest items that the map shows."""


@dataclasses.dataclass(eq=False)
class Explorer:
    """A run, as the page shows it."""

    run_dir: RunDirectory
    lists: ModelLists
    catalogue: Catalogue
    attributes: dict[str, Attribute]
    """By name; at least `POPULARITY` where the run holds counts."""
    users: Users | None
    notes: list[str]
    """What is missing and why, for the person."""
    item_map: ItemMap

    @property
    def num_items(self) -> int:
        """V."""
        return self.lists.run.num_items

    @property
    def title(self) -> str:
        """The run in a few words."""
        config = self.lists.run.config
        return f"{MODELS[config.model.model].title} on {_data_name(config)}"

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What the page needs to know at its start."""
        config = self.lists.run.config
        return {
            "name": self.run_dir.path.name,
            "model": MODELS[config.model.model].title,
            "dataset": _data_name(config),
            "epoch": self.lists.run.epoch,
            "items": self.num_items,
            "users": None if self.users is None else self.users.histories.num_users,
            "columns": self.lists.columns(),
            "branches": self.lists.branches,
            "traits": self.lists.run.recommender.num_traits > 0,
            "defaults": self.lists.defaults(),
            "attributes": list(self.attributes),
            "notes": self.notes,
        }

    @functools.cached_property
    def training(self) -> dict[str, Any]:
        """Curves, test and breakdown; computed once, when asked for."""
        histories = None if self.users is None else self.users.histories
        return training_record(self.run_dir, histories, self.lists.max_len)

    def items_of(self, answer: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """What is shown of every item that an answer of `ModelLists` names, by index."""
        named = {entry["item"] for entries in answer["lists"].values() for entry in entries}
        reasons = answer["reasons"]
        if reasons is not None:
            links = (*reasons["term"], *reasons["transitions"])
            named |= {reasons["item"], *(link["item"] for link in links)}
        return {item: self.catalogue.item(item) for item in sorted(named)}

    def neighbours(self, item: int) -> dict[str, Any]:
        """The `item`, and its `neighbours` by the cosine of their vectors, nearest first."""
        ids = self.lists.run.item_ids
        name = ids[item] if ids.dtype.kind == "T" else int(ids[item])
        lists, _ = self.lists.run.similar_lists(name, min(NEIGHBOURS, self.num_items), None)
        found = zip(lists.items[0].tolist(), lists.scores[0].tolist(), strict=True)
        return {
            "item": self.catalogue.item(item),
            "neighbours": [
                self.catalogue.item(index) | {"cosine": cosine}
                for index, cosine in found
                if index >= 0
            ],
        }


def load_explorer(options: ExploreOptions, warn: Callable[[str], None]) -> Explorer:
    """Loads a run and all that is shown with it; compiles the programs of the lists.

    Args:
      options: what is to be shown, of a trained run.
      warn: takes lines on what is missing, which is no error.

    Raises:
      UserError: if the run or a file cannot be used.
    """
    run_dir, notes = RunDirectory(options.run_dir), []

    def note(line: str) -> None:
        notes.append(line)
        warn(line)

    config = run_dir.config()
    run = load_run(run_dir.path)
    titles = _titles(options, run.item_ids, note)
    attributes = _attributes(config, options, run.item_ids, note)
    count_V = _counts(run, note)
    if count_V is not None:
        attributes = attributes | {POPULARITY: Numbers(count_V.astype(np.float64))}
    users = _users(config, options, run_dir, note)
    lists = ModelLists(run, options.k, None if users is None else users.histories.traits)
    item_map = ItemMap(run_dir, np.asarray(run.item_vectors()), count_V)
    lists.warm_up()
    return Explorer(
        run_dir, lists, Catalogue(run.item_ids, titles, count_V), attributes, users, notes, item_map
    )


def _data_name(config: Config) -> str:
    return Path(config.dataset).name


def _titles(options: ExploreOptions, item_ids: Ids, note: Callable[[str], None]) -> list[str]:
    """V titles, empty where there is none."""
    if options.item_titles is None:
        return [""] * len(item_ids)
    titles, unknown = titles_of(options.item_titles, options.title_column, item_ids)
    _note_unknown(options.item_titles, unknown, note)
    return titles


def _attributes(
    config: Config, options: ExploreOptions, item_ids: Ids, note: Callable[[str], None]
) -> dict[str, Attribute]:
    """Those of the file that is named, or else those that the run was trained with."""
    path, columns = options.item_attributes, options.attribute_columns
    if path is None:
        path, columns = config.attributes.item_attributes, config.attributes.attribute_columns
    if path is None:
        return {}
    try:
        attributes, unknown = read_attributes(path, columns, item_ids)
    except UserError as error:
        if options.item_attributes is not None:
            raise
        note(f"no attributes: {error}; --item-attributes names the file where it lies now")
        return {}
    _note_unknown(path, unknown, note)
    return attributes


def _note_unknown(path: str, unknown: int, note: Callable[[str], None]) -> None:
    if unknown:
        note(f"{path}: {unknown} items are not in the run's data: left out")


def _counts(run: TrainedRun, note: Callable[[str], None]) -> np.ndarray | None:
    """[V] occurrences in training; None, with a note, where the run does not hold them."""
    try:
        return run.counts.items
    except UserError as error:
        note(f"no teacher, transitions and popularity: {error}")
        return None


def _moved(config: Config, options: ExploreOptions) -> Config:
    """The configuration with the data where they lie now."""
    attributes = config.attributes.moved(None, options.user_traits)
    own = attributes.item_attributes
    if own is not None and not os.path.isfile(own) and options.item_attributes is not None:
        # The file that colours the map may be the one that the run was trained with, moved.
        attributes = attributes.moved(options.item_attributes, None)
    place = dataclasses.replace(config.run, data_dir=options.data_dir or config.run.data_dir)
    dataset = options.dataset or config.dataset
    return dataclasses.replace(config, run=place, dataset=dataset, attributes=attributes)


def _users(
    config: Config,
    options: ExploreOptions,
    run_dir: RunDirectory,
    note: Callable[[str], None],
) -> Users | None:
    """The users of the run's data; None, with a note, where data that nobody named are missing."""
    moved = _moved(config, options)
    try:
        data = load_dataset(moved)
        run_dir.check_data(data.inputs_fingerprint())
    except UserError as error:
        named = (options.dataset, options.data_dir, options.user_traits)
        if any(flag is not None for flag in named):
            raise
        flags = "--dataset and --user-traits name the files where they lie"
        if not config.attributes.describes_users:
            flags = "--dataset names the file where it lies"
        note(f"no users to pick: {error}; {flags} now")
        return None
    if not isinstance(data, Histories):
        note("no users to pick: the data are streamed")
        return None
    return Users(data)
