"""Amazon Beauty (5-core), the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset beauty

The paper has τ of 0.05 or 0.1; in validation 0.05 is ahead by no more than seeds differ. About 40
minutes on one CPU core. Expect the test figures of docs/results.md, run beauty-1.
"""

from mqsa_jax.config import Config, ObjectiveConfig

config = Config(dataset="beauty", objective=ObjectiveConfig(tau=0.05))

plus = {"dim": 128, "tau": 0.1}
"""Flags that `--model mqsa-ted-plus` adds to its own (`mqsa_jax/models/registry.py`).

Width 128 was chosen on the validation split at τ of 0.1.
"""
