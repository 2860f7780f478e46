"""`export`: the best epoch of a run as a folder of open formats.

JAX is imported only once the arguments have proved good, so that help and errors come at once.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mqsa_jax.commands.command_line import parse, run_command
from mqsa_jax.errors import UserError
from mqsa_jax.export.folder import check_target
from mqsa_jax.extras import check_extra


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """The flags of the command."""

    run_dir: str
    """Folder of a run."""
    output: str
    """Folder that becomes the export."""
    onnx: bool = False
    """Write the program as ONNX too; needs the extra onnx."""
    index: Literal["usearch", "faiss"] | None = None
    """Write an approximate index of the item vectors too; needs the extra of that name."""
    replace: bool = False
    """Replace an export that --output holds."""


def export_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax export") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _export, arguments)


def _export(program: str, arguments: Sequence[str]) -> None:
    """Writes the best epoch of a run as StableHLO, safetensors, Parquet and a model card."""
    options = parse(program, ExportConfig, arguments, _export.__doc__)
    output = Path(options.output).absolute()
    if not os.path.isdir(options.run_dir):
        raise UserError(f"--run-dir {options.run_dir}: no such folder; name the folder of a run")
    if options.onnx:
        check_extra("onnx", "--onnx")
    if options.index is not None:
        check_extra(options.index, f"--index {options.index}")
    check_target(output, options.replace)

    from mqsa_jax.export.writing import export_run
    from mqsa_jax.inference.loaded_run import load_run

    run = load_run(options.run_dir)
    flags = {"onnx": options.onnx, "index": options.index, "replace": options.replace}
    names = export_run(run, output, **flags)
    print(f"{options.output}: {run.config.model.model}, epoch {run.epoch}: {', '.join(names)}")
