"""Trains many settings and seeds into one table: `python sweep.py --help`."""

import sys

from mqsa_jax.sweep_cli import sweep_main

if __name__ == "__main__":
    sys.exit(sweep_main())
