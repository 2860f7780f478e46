"""Amazon Toys and Games (5-core), the settings of MQSA-TED (Zhu et al., WSDM 2024, arXiv
2311.01056).

python train.py --dataset toys
"""

from mqsa_jax.config import Config

config = Config(dataset="toys")
