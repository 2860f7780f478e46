"""Amazon Sports and Outdoors (5-core), the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset sports

An epoch takes about twice that of Toys. Not run to its end yet: no figure to expect.
"""

from mqsa_jax.config import Config

config = Config(dataset="sports")
