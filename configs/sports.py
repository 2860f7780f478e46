"""Amazon Sports and Outdoors (5-core), the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset sports

About three quarters of an hour on one CPU core. Expect the test figures of docs/results.md, run
sports-1.
"""

from mqsa_jax.config import Config

config = Config(dataset="sports")

plus = {"dim": 128}
"""Flags that `--model mqsa-ted-plus` adds to its own (`mqsa_jax/models/registry.py`).

Width 128 was chosen on the validation split.
"""
