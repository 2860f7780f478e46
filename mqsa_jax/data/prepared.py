"""A prepared data set: a folder of Parquet shards, vocabularies and a manifest.

`mqsa-jax prepare` writes it. `histories/*.parquet` has a row a user: `user` (index), `items`
(indices, oldest first), `times` (microseconds since 1970), and after a split by time
`before_valid` and `before_test`, numbers of items before each cut. `users.parquet` and
`items.parquet` have the ids by index.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mqsa_jax.data.histories import MIN_ITEMS, Histories
from mqsa_jax.data.ids import STRING, Ids
from mqsa_jax.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
HISTORIES, USERS, ITEMS = "histories", "users.parquet", "items.parquet"


def is_prepared(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has a manifest."""
    return Path(folder, MANIFEST).is_file()


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a prepared data set.

    Raises:
      UserError: naming the file, if it is missing, damaged or of a newer version.
    """
    path = Path(folder, MANIFEST)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files = manifest["format_version"], manifest["files"]
        whole = isinstance(version, int) and isinstance(files, dict)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no prepared data set, as it has no {MANIFEST}; make one of a raw log: "
            "mqsa-jax prepare LOG --output FOLDER"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path}: damaged; prepare the data set again")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version} is unknown, this is {FORMAT_VERSION}; use the "
            "version of mqsa_jax that wrote it"
        )
    return manifest


def read_prepared(folder: str | os.PathLike[str]) -> Histories:
    """The histories of a prepared data set, its files verified.

    Without a split by time, a history of fewer than three items cannot be split into training,
    validation and test: such histories are skipped, and one `UserWarning` gives their number.

    Raises:
      UserError: naming the file that is missing, damaged or changed.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    for name, expected in manifest["files"].items():
        check_file(folder / name, expected)
    shards = [name for name in sorted(manifest["files"]) if name.startswith(f"{HISTORIES}/")]
    columns: dict[str, list[np.ndarray]] = {}
    for name in shards:
        for column, values in _read_shard(folder / name).items():
            columns.setdefault(column, []).append(values)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    cuts = None
    if "before_valid" in joined:
        cuts = np.stack([joined["before_valid"], joined["before_test"]], 1).astype(np.int64)
    histories = Histories(
        items=joined["items"],
        offsets=np.append(0, np.cumsum(joined["lengths"])),
        user_ids=read_ids(folder / USERS, "user"),
        item_ids=read_ids(folder / ITEMS, "item"),
        cuts=cuts,
    )
    return histories if cuts is not None else _splittable(histories, folder)


def iterate_histories(
    folder: str | os.PathLike[str],
) -> Iterator[tuple[int | str, list[int | str]]]:
    """Id and items' ids of every user, oldest item first, shard by shard; files not verified."""
    import pyarrow.parquet as pq

    folder = Path(folder)
    user_ids, item_ids = read_ids(folder / USERS, "user"), read_ids(folder / ITEMS, "item")
    for path in sorted((folder / HISTORIES).iterdir()):
        table = pq.read_table(path, columns=["user", "items"])
        users = user_ids[table.column("user").to_numpy()].tolist()
        items = table.column("items").combine_chunks()
        ends = np.cumsum(items.value_lengths().to_numpy()).tolist()
        ids = item_ids[items.flatten().to_numpy()].tolist()
        for user, begin, end in zip(users, [0, *ends], ends, strict=False):
            yield user, ids[begin:end]


def check_file(path: Path, sha256: str) -> None:
    """Raises UserError naming the file, unless it is there and has this SHA-256 (hexadecimal)."""
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; prepare the data set again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if actual != sha256:
        raise UserError(
            f"{path}: not the file that was written (its SHA-256 differs from the manifest's); "
            "prepare the data set again"
        )


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    """Columns of a shard as flat arrays."""
    import pyarrow.parquet as pq

    return shard_columns(pq.read_table(path, columns=None).drop_columns("times"))


def shard_columns(table: "pa.Table") -> dict[str, np.ndarray]:
    """Columns of rows of a shard as flat arrays: `items`, `lengths`, and the cuts if there are."""
    items = table.column("items").combine_chunks()
    arrays = {
        "items": items.flatten().to_numpy().astype(np.int32, copy=False),
        "lengths": items.value_lengths().to_numpy().astype(np.int64),
    }
    for name in ("before_valid", "before_test"):
        if name in table.column_names:
            arrays[name] = table.column(name).to_numpy()
    return arrays


def read_ids(path: Path, column: str) -> Ids:
    """Ids of a vocabulary file, by index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pq.read_table(path, columns=[column]).column(column)
    if pa.types.is_integer(values.type):
        return values.to_numpy()
    return np.array(values.to_pylist(), STRING)


def _splittable(histories: Histories, folder: Path) -> Histories:
    """The histories that leave-one-out can split."""
    kept_U = histories.lengths >= MIN_ITEMS
    short = int((~kept_U).sum())
    if not short:
        return histories
    if short == histories.num_users:
        raise UserError(
            f"{folder}: no history is left, as all {short} have fewer than {MIN_ITEMS} items"
        )
    warnings.warn(
        f"{folder}: skipped {short} of {histories.num_users} histories for having fewer than "
        f"{MIN_ITEMS} items",
        UserWarning,
        stacklevel=3,
    )
    return histories.of_users(kept_U)
