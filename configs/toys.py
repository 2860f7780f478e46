"""Amazon Toys and Games (5-core), the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset toys

About 20 minutes on 2 CPU cores. Expect the test figures of docs/results.md, run toys-2023.
"""

from mqsa_jax.config import Config

config = Config(dataset="toys")
