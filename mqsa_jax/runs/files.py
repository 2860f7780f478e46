"""Files of runs: written whole or not at all, read with an error that names the file, locked."""

import json
import os
from pathlib import Path
from typing import Any

from mqsa_jax.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file. A reader, or a crash, sees the old content or the new, never a part."""
    draft = path.with_name(path.name + ".tmp")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON; raises ValueError at NaN."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON; raises UserError naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this the folder of a run?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); restore or delete it") from None
