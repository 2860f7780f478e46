"""Amazon Toys and Games (5-core), the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset toys

About a quarter of an hour on 2 CPU cores. Expect the test figures of docs/results.md.
"""

from mqsa_jax.config import Config

config = Config(dataset="toys")

plus = {"dim": 128}
"""Flags that `--model mqsa-ted-plus` adds to its own (`mqsa_jax/models/registry.py`).

Width 128 was chosen on the validation split.
"""
