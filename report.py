"""Makes docs/results.md and its figures from the results of runs: `python report.py --help`."""

import sys

from mqsa_jax.cli import report_main

if __name__ == "__main__":
    sys.exit(report_main())
