"""Raw logs that are prepared on the way to training, by the defaults, in the user's cache."""

import glob
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from mqsa_jax.data.prepared import FORMAT_VERSION, ITEMS, is_prepared
from mqsa_jax.errors import FolderError
from mqsa_jax.prepare.input_files import find_input_files, format_of
from mqsa_jax.prepare.options import PrepareOptions


def is_raw_log(dataset: str) -> bool:
    """Whether a data set is given as a raw log: a file or folder of a known format, or a pattern.

    What is left of a prepared folder without its manifest is none.
    """
    if os.path.isdir(dataset):
        is_rest = is_prepared(dataset) or os.path.exists(os.path.join(dataset, ITEMS))
        return not is_rest and any(format_of(path) for path in Path(dataset).rglob("*"))
    if os.path.isfile(dataset):
        return format_of(dataset) is not None
    return glob.has_magic(dataset)


def prepared_in_cache(dataset: str, say: Callable[[str], None]) -> Path:
    """The folder that a raw log is prepared in, by the defaults of `prepare`; made if need be.

    It is made anew when the files change.

    Args:
      dataset: a file or a glob pattern.
      say: takes the lines of the progress, and where the folder is.

    Raises:
      UserError: as `prepare`.
    """
    # Imported late: both slow the start.
    import pooch

    from mqsa_jax.prepare.dataset import prepare
    from mqsa_jax.prepare.engines import engine_maker

    paths = [Path(path).resolve() for path in find_input_files([dataset]).paths]
    stats = [path.stat() for path in paths]
    described = [
        FORMAT_VERSION,
        *(
            (str(path), stat.st_size, stat.st_mtime_ns)
            for path, stat in zip(paths, stats, strict=True)
        ),
    ]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    name = paths[0].name.partition(".")[0] or "log"
    folder = pooch.os_cache("mqsa_jax") / "prepared" / key / name
    if not is_prepared(folder):
        try:
            prepare([dataset], folder, PrepareOptions(), engine_maker(), say=say)
        except FolderError:
            # Another process was faster.
            if not is_prepared(folder):
                raise
    say(f"{dataset}: prepared in {folder}")
    return folder
