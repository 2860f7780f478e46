"""Analyses the files at hand, then draws the figures and writes the page."""

import warnings
from pathlib import Path

from mqsa_jax.errors import UserError
from mqsa_jax.reporting import overview
from mqsa_jax.reporting.analysis import update_analysis
from mqsa_jax.reporting.configurations import group_runs
from mqsa_jax.reporting.figures import draw_all, require_matplotlib
from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.results import by_data, load_runs
from mqsa_jax.reporting.study import analysis_file, read_study, slugs
from mqsa_jax.reporting.sweeps import load_sweeps
from mqsa_jax.runs.files import write_atomically


def make_report(results: Path, out: Path, data_dir: str | None) -> Path:
    """Writes `out`/results.md, and figures and analyses in `out`/results.

    Args:
      results: folder of the runs' folders.
      out: a folder such as docs.
      data_dir: folder of the data files, as of train.py.

    Returns:
      The page.

    Raises:
      UserError: if there is no run, a file is broken, or matplotlib is missing.
    """
    require_matplotlib()
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UserError(f"data directory {data_dir} is not a directory")
    runs, left_out = load_runs(results)
    for sentence in left_out:
        _warn(f"left out: {sentence}")
    names = slugs(runs, load_sweeps(results.parent / "sweeps"))
    for data, own in by_data(runs).items():
        missing = update_analysis(group_runs(own), analysis_file(out, names[data]), data_dir)
        if missing:
            _warn(f"{data.name}: no breakdown and list statistics computed: {missing}")
    study = read_study(results, out)
    text = build_page(study)
    figures = out / "results" / "figures"
    draw_all(study.charts, figures)
    if study.overview is not None:
        overview.draw_overview(study.overview, figures / f"{overview.NAME}.png")
    page = out / "results.md"
    write_atomically(page, text.encode())
    return page


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
