"""Where a data set comes from: the four benchmark sets by name, or the user's own data.

The sets are Amazon Beauty, Sports and Outdoors, Toys and Games (5-core) and Yelp, as prepared for
S3-Rec (Zhou et al., CIKM 2020, https://arxiv.org/abs/2008.07873).
"""

import dataclasses
import difflib
import hashlib
import os
from pathlib import Path

from mqsa_jax.config import Config
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.described import with_attributes
from mqsa_jax.data.histories import Histories, read_histories
from mqsa_jax.data.prepared import read_manifest, read_prepared
from mqsa_jax.data.streamed import StreamedHistories, streams
from mqsa_jax.data.synthetic import synthetic_histories
from mqsa_jax.errors import SettingError, UserError

BASE_URL = (
    "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/"
    "2a81540ae18615d88ef88227b0c066e5b74781e5/data"
)
"""Folder of the benchmark files, at the commit whose checksums `SOURCES` holds."""

DATA_DIR_VARIABLE = "MQSA_DATA_DIR"
"""Environment variable that names a folder of data sets."""

SYNTHETIC = "synthetic"
"""Name of the generated data set, which has no file."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A benchmark file: its name below `BASE_URL` and its SHA-256 (hexadecimal)."""

    file_name: str
    sha256: str


SOURCES: dict[str, Source] = {
    "beauty": Source(
        "Beauty.txt", "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8"
    ),
    "sports": Source(
        "Sports_and_Outdoors.txt",
        "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
    ),
    "toys": Source(
        "Toys_and_Games.txt", "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f"
    ),
    "yelp": Source("Yelp.txt", "724b219106b81dd2349027da997334ddb6da9fe2f152ad6e0d97a93170f7caed"),
}
"""The benchmark sets by name."""


def dataset_names() -> tuple[str, ...]:
    """Return the names that stand for a data set.

    >>> dataset_names()
    ('synthetic', 'beauty', 'sports', 'toys', 'yelp')
    """
    return (SYNTHETIC, *SOURCES)


def dataset_title(dataset: str) -> str:
    """Return a data set's name in tables and figures: of a file, the file's name.

    >>> dataset_title("toys"), dataset_title("logs/shop.txt")
    ('Toys', 'shop.txt')
    """
    known = dataset.lower() in dataset_names()
    return dataset.capitalize() if known else Path(dataset).name


def load_histories(dataset: str, data_dir: str | os.PathLike[str] | None = None) -> Histories:
    """Finds, downloads or generates a data set, and reads it.

    Args:
      dataset: one of `dataset_names()` in any case, a file `user item item ...`, or the folder of
        a prepared data set.
      data_dir: a folder that may hold the file.

    Raises:
      UserError: see `resolve_dataset`, `read_histories` and `read_prepared`.
    """
    path = resolve_dataset(dataset, data_dir)
    if path is None:
        return synthetic_histories()
    return read_prepared(path) if path.is_dir() else read_histories(path)


def load_dataset(config: Config) -> Dataset:
    """The data of a configuration, in memory or a stream, with attributes of items and users.

    Raises:
      UserError: see `load_histories`, `streams`, `StreamedHistories.open` and `with_attributes`.
    """
    data: Dataset
    if streams(config.run.stream, config.dataset):
        data = StreamedHistories.open(config.dataset)
    else:
        data = load_histories(config.dataset, config.run.data_dir)
    return with_attributes(data, config.attributes, config.model.max_len)


def resolve_dataset(
    dataset: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    base_url: str = BASE_URL,
) -> Path | None:
    """Return the file that holds a data set.

    Args:
        dataset: one of `dataset_names()` in any case, or the path of a file or folder.
        data_dir: see `find_dataset`.
        base_url: see `find_dataset`.

    Returns:
        The file or folder, or None for ``synthetic``, which is generated.

    Raises:
        UserError: there is no such name or file, or `find_dataset` failed.
    """
    check_dataset(dataset)
    name = dataset.lower()
    if name == SYNTHETIC:
        return None
    if name in SOURCES:
        return find_dataset(name, data_dir, base_url=base_url)
    return Path(dataset)


def check_dataset(dataset: str) -> None:
    """Refuse what is neither a data set's name nor a file or prepared folder.

    Args:
        dataset: see `resolve_dataset`.

    Raises:
        UserError: there is no such name or file.
    """
    if dataset.lower() in dataset_names():
        return
    if os.path.isdir(dataset):
        read_manifest(dataset)
        return
    if os.path.exists(dataset):
        return
    if Path(dataset).name != dataset or Path(dataset).suffix:
        raise UserError(
            f"no such file: {dataset!r}; check the path, or use one of: "
            f"{', '.join(dataset_names())}"
        )
    raise _unknown(dataset)


def find_dataset(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    base_url: str = BASE_URL,
) -> Path:
    """Return the verified file of a benchmark set, downloading it where it is not at hand.

    It is sought in `data_dir`, then in the folder that ``$MQSA_DATA_DIR`` names, then in the
    user's cache, into which a download goes.

    Args:
        name: a key of `SOURCES`.
        data_dir: a folder that may hold the file.
        base_url: the folder to download from.

    Returns:
        The file, whose SHA-256 is the known one.

    Raises:
        UserError: the name is unknown, a folder is none, a file has a wrong checksum, or the
            download failed. A failed download leaves no file behind.
    """
    source = SOURCES.get(name)
    if source is None:
        raise _unknown(name)
    for origin, folder in (
        ("{data_dir}", data_dir),
        (f"${DATA_DIR_VARIABLE}", os.environ.get(DATA_DIR_VARIABLE) or None),
    ):
        if folder is None:
            continue
        if not os.path.isdir(folder):
            raise SettingError(
                f"{origin} {os.fspath(folder)!r} is no directory; "
                f"name the folder that holds {source.file_name}"
            )
        path = Path(folder, source.file_name)
        if path.is_file():
            return _verified(path, source)
    return _fetch(source, f"{base_url.rstrip('/')}/{source.file_name}")


def _verified(path: Path, source: Source) -> Path:
    """Return `path` if its content is that of `source`."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check the file") from error
    if sha256 != source.sha256:
        raise SettingError(
            f"{path}: wrong checksum (SHA-256 {sha256}, expected {source.sha256}); "
            f"delete it to download afresh, or give {{dataset}} {path} to use it as your own file"
        )
    return path


def _fetch(source: Source, url: str) -> Path:
    """Return the file in the user's cache, after a download where it is not there yet.

    It appears in the cache only once it is whole and its checksum is right.
    """
    # Imported late: it slows the start, and a file in a folder of the user's does without it.
    import pooch

    path = pooch.os_cache("mqsa_jax") / source.file_name
    if path.is_file():
        return _verified(path, source)
    pooch.get_logger().setLevel("ERROR")  # it would report every download on stderr
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{source.sha256}",
            fname=path.name,
            path=path.parent,
            # Not streamed (the files have 2 MB at most): pooch leaves a streamed error answer open.
            downloader=pooch.HTTPDownloader(stream=False),
        )
    except (OSError, ValueError) as error:
        raise SettingError(
            f"cannot download {url} to {path.parent}: {_reason(error)}; fetch {source.file_name} "
            f"from there by hand and name its folder with {{data_dir}} or ${DATA_DIR_VARIABLE}"
        ) from error
    return path


def _reason(error: OSError | ValueError) -> str:
    """Say in a few words why a download failed."""
    # The errors of requests, which pooch downloads with, are OSErrors that may hold a response.
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, PermissionError):
        return "no permission to write"
    if isinstance(error, OSError):
        return error.strerror or f"the connection failed ({type(error).__name__})"
    return "what came has a wrong checksum"


def _unknown(name: str) -> UserError:
    """Return the error for a name that stands for no data set, with the nearest names."""
    names = dataset_names()
    close = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return UserError(
        f"unknown data set {name!r}; {hint}use one of: {', '.join(names)}, or the path of a file"
    )
