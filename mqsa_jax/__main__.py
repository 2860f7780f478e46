"""`mqsa-jax COMMAND …`, and the same as `python -m mqsa_jax COMMAND …`."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "prepare": "turn a raw log into a data set",
    "train": "train a model, or count one, and test it",
    "eval": "evaluate the best epoch of a run",
    "recommend": "lists of items for users, for histories of your own, or like an item",
    "export": "the best epoch of a run as StableHLO, ONNX, safetensors and Parquet",
    "serve": "answer requests for recommendations over HTTP",
    "explore": "a local web page of a run: lists and why, a map of the items, curves",
    "sweep": "train many settings and seeds into one table",
    "preflight": "compile a run's programs for accelerators that are not there",
    "report": "tables, tests and figures from the results of runs",
}
_MODULES = {"eval": "evaluate"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        module = importlib.import_module(f"mqsa_jax.commands.{_MODULES.get(name, name)}")
        return getattr(module, f"{name}_main")(rest, f"mqsa-jax {name}")
    if name in ("-h", "--help"):
        lines = [f"  {command:10}{what}" for command, what in COMMANDS.items()]
        print("usage: mqsa-jax COMMAND ...\n\ncommands:", *lines, sep="\n")
        print("\n`mqsa-jax COMMAND --help` explains the flags of a command.")
        return 0
    print(f"mqsa-jax: error: no command {name!r}; one of {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
