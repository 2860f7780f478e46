"""Trains a sequential recommender: `python train.py --help`; the same as `mqsa-jax train`."""

import sys

from mqsa_jax.commands.train import train_main

if __name__ == "__main__":
    sys.exit(train_main())
