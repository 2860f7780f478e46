"""Evaluates a trained recommender: `python eval.py --run-dir DIR`."""

import sys

from mqsa_jax.cli import eval_main

if __name__ == "__main__":
    sys.exit(eval_main())
