"""Amazon Beauty (5-core), the settings of MQSA-TED (Zhu et al., WSDM 2024, arXiv 2311.01056).

python train.py --dataset beauty
"""

from mqsa_jax.config import Config

config = Config(dataset="beauty")
