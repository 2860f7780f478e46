"""Optional libraries: what each extra of the package brings."""

import importlib.util

from mqsa_jax.errors import UserError

MODULES = {
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "usearch": ("usearch",),
    "faiss": ("faiss",),
    "serve": (
        "fastapi",
        "fastapi_offline",
        "starlette",
        "uvicorn",
        "uvloop",
        "httptools",
        "orjson",
        "pydantic",
        "prometheus_client",
    ),
    "explore": ("fastapi", "uvicorn", "openTSNE"),
}
"""Modules by extra."""


def check_extra(extra: str, what: str) -> None:
    """Raises UserError, naming the extra, if a module of it is not installed.

    Args:
      extra: a key of `MODULES`.
      what: what needs it, as the message begins.
    """
    missing = [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs {', '.join(missing)}: pip install 'mqsa-jax[{extra}]'")
