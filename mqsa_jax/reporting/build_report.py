"""Analyses what is at hand, then draws and writes the report."""

from pathlib import Path

from mqsa_jax.errors import UserError
from mqsa_jax.reporting.analysis import update_analysis
from mqsa_jax.reporting.figures import draw_all, require_matplotlib
from mqsa_jax.reporting.page import build_page
from mqsa_jax.reporting.results import by_dataset, load_runs
from mqsa_jax.reporting.study import Study, analysis_file, make_study
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
        raise UserError(f"--data-dir {data_dir} is no directory; name one that holds data files")
    runs = load_runs(results)
    for dataset, models in by_dataset(runs).items():
        path = analysis_file(out / "results" / "analysis", dataset)
        update_analysis(dataset, models, path, data_dir)
    study = read_study(results, out)
    page = out / "results.md"
    text = build_page(study, out / "results" / "parts")
    draw_all(study.charts, out / "results" / "figures")
    write_atomically(page, text.encode())
    return page


def read_study(results: Path, out: Path) -> Study:
    """The study from files that are kept, without ranks and data.

    Sweeps lie in the folder `sweeps` beside that of the runs.
    """
    sweeps = load_sweeps(results.parent / "sweeps")
    return make_study(load_runs(results), sweeps, out / "results" / "analysis")
