"""Trains a sequential recommender: `python train.py --help`."""

import sys

from mqsa_jax.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
