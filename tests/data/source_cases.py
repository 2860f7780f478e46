"""The file of `toys` shrunk to two lines, and the message of an error."""

import hashlib
from pathlib import Path

import pytest

from mqsa_jax.errors import UserError

CONTENT = b"1 1 2 3\n2 3 2 1\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE_NAME = "Toys_and_Games.txt"
UNUSED_URL = "http://127.0.0.1:9/never-asked"


def put(folder: Path, content: bytes = CONTENT) -> Path:
    """Write the file of `toys` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_bytes(content)
    return path


def error_of(function, *args, **kwargs) -> str:
    """The one-line message of the error that a call raises."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message
