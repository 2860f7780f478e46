"""A data set with what is known of its items and users beside the histories."""

import dataclasses
import os
import warnings

import numpy as np

from mqsa_jax.attribute_settings import AttributesConfig
from mqsa_jax.data import splits
from mqsa_jax.data.attributes import Column, Encoded, encode
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.ids import Ids, Lookup, ids_like, is_text
from mqsa_jax.errors import SettingError, UserError


def with_attributes(data: Dataset, settings: AttributesConfig, max_len: int) -> Dataset:
    """The data set with the attributes of its items, and the traits of its users.

    Warns of items and users of the files that the data do not have, and of attributes left out.

    Args:
      data: in memory or streamed.
      settings: the files, and how they are read.
      max_len: items of a history that training reads.

    Raises:
      UserError: naming the file, if it is of no use; or if the data are a stream and shall get cold
        items or traits, which take them in memory.
    """
    if not isinstance(data, Histories):
        _check_streamable(settings)
    if settings.item_attributes is not None:
        data = _with_item_attributes(data, settings.item_attributes, settings, max_len)
    if settings.user_traits is not None:
        data = _with_user_traits(data, settings.user_traits, settings, max_len)
    return data


def _check_streamable(settings: AttributesConfig) -> None:
    for flag in ("cold_items", "user_traits"):
        if getattr(settings, flag):
            raise SettingError(
                f"{{{flag}}} needs the histories in memory, and these are streamed: {{stream}} "
                "never reads them into it"
            )


def _with_item_attributes(
    data: Dataset, path: str, settings: AttributesConfig, max_len: int
) -> Dataset:
    # Imported late: only runs with attributes read files of them.
    from mqsa_jax.prepare.attribute_files import read_attribute_file

    columns = read_attribute_file(path, "item", settings.attribute_columns)
    if settings.cold_items:
        data = dataclasses.replace(data, **_cold_items(data.item_ids, columns))
    trains_V = splits.item_counts(data, max_len) > 0
    encoded = encode(
        columns, data.item_ids, trains_V, settings.attribute_bins, settings.attribute_power
    )
    _check(path, "items", encoded)
    return dataclasses.replace(data, attributes=encoded.attributes)


def _with_user_traits(
    data: Histories, path: str, settings: AttributesConfig, max_len: int
) -> Histories:
    from mqsa_jax.prepare.attribute_files import read_attribute_file

    columns = read_attribute_file(path, "user", settings.trait_columns)
    trains_U = splits.training_inputs(data, max_len).lengths > 0
    encoded = encode(
        columns, data.user_ids, trains_U, settings.attribute_bins, settings.attribute_power
    )
    _check(path, "users", encoded)
    return dataclasses.replace(data, traits=encoded.attributes)


def _cold_items(item_ids: Ids, columns: list[Column]) -> dict[str, Ids | int]:
    """The vocabulary with the items that columns describe and it lacks behind; how many those are.

    Behind, so that training can leave them out by a slice.
    """
    owners = list(dict.fromkeys(owner for column in columns for owner in column.owners))
    described = ids_like(item_ids, owners)
    new = described[Lookup(item_ids).indices(described) < 0]
    # What `ids_like` makes of a value that cannot be an id.
    new = np.unique(new[new != ("" if is_text(item_ids) else -1)])
    return {"item_ids": np.concatenate([item_ids, new]), "num_cold": len(new)}


def _check(path: str, what: str, encoded: Encoded) -> None:
    """Raises UserError if nothing is known of any item or user; warns of what is left out."""
    lists = encoded.attributes
    if not lists.num_attributes:
        raise UserError(
            f"{path}: describes {encoded.num_known} {what} of the data, of which no two share an "
            "attribute; check the ids and columns"
        )
    left_out = []
    if encoded.num_unknown:
        left_out.append(f"{encoded.num_unknown} {what} that the data do not have")
    if encoded.num_rare:
        left_out.append(f"{encoded.num_rare} values that no two {what} share, or none that trains")
    bare = int((lists.lengths == 0).sum())
    if left_out or bare:
        text = f"skipped {' and '.join(left_out)}; " if left_out else ""
        warnings.warn(
            f"{os.path.basename(path)}: {text}{lists.num_rows - bare} of {lists.num_rows} {what} "
            f"have some of {lists.num_attributes} attributes",
            UserWarning,
            stacklevel=3,
        )
