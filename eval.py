"""Evaluates a trained recommender: `python eval.py --run-dir DIR`; as `mqsa-jax eval`."""

import sys

from mqsa_jax.commands.evaluate import eval_main

if __name__ == "__main__":
    sys.exit(eval_main())
