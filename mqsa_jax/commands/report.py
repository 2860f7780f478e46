"""`report`: tables, tests and figures from the results of runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mqsa_jax.commands.command_line import parse, run_command


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """The flags of the command."""

    results: str = "runs"
    """Folder that holds the runs' folders; sweeps lie in the folder `sweeps` beside it."""
    out: str = "report"
    """Folder that gets results.md, and results/figures and results/analysis."""
    data_dir: str | None = None
    """Folder of the data files; otherwise $MQSA_DATA_DIR, the user's cache, a download."""


def report_main(arguments: Sequence[str] | None = None, program: str = "mqsa-jax report") -> int:
    """Runs the command under a program's name; returns its exit code."""
    return run_command(program, _report, arguments)


def _report(program: str, arguments: Sequence[str]) -> None:
    """Makes results.md, with tables, tests and figures, from the results of runs."""
    options = parse(program, ReportConfig, arguments, _report.__doc__)

    from mqsa_jax.reporting.build_report import make_report

    page = make_report(Path(options.results), Path(options.out), options.data_dir)
    print(f"Report in {page}")
