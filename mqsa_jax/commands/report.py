"""`report`: tables, tests and figures from the results of runs."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from mqsa_jax.commands.command_line import parse, run_command


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What mqsa-jax report is asked for."""

    results: str = "runs"
    """Folder that holds the runs' folders; sweeps lie in the folder `sweeps` beside it."""
    out: str = "report"
    """Folder that gets results.md, and results/figures and results/analysis."""
    data_dir: str | None = None
    """Folder of the data files; otherwise $MQSA_DATA_DIR, the user's cache, a download."""


def report_main(arguments: Sequence[str] | None = None) -> int:
    """Runs mqsa-jax report; returns its exit code."""
    return run_command("mqsa-jax report", _report, sys.argv[1:] if arguments is None else arguments)


def _report(arguments: Sequence[str]) -> None:
    """Makes results.md, with tables, tests and figures, from the results of runs."""
    options = parse("mqsa-jax report", ReportConfig, arguments, _report.__doc__)

    from mqsa_jax.reporting.build_report import make_report

    page = make_report(Path(options.results), Path(options.out), options.data_dir)
    print(f"Report in {page}")
