"""Yelp, the settings of MQSA-TED.

Zhu et al., WSDM 2024, arXiv 2311.01056.

python train.py --dataset yelp

About three quarters of an hour on one CPU core. Expect the test figures of docs/results.md, run
yelp-1.
In 2,027 of 30,431 test cases the target was consumed before, and counts as a miss unless
eval.py is given --exclude-seen none.
"""

from mqsa_jax.config import Config

config = Config(dataset="yelp")

plus = {"dim": 128, "term_weight": 3.0}
"""Flags that `--model mqsa-ted-plus` adds to its own (`mqsa_jax/models/registry.py`).

Width 128 as for the other data sets; the term has a quarter of the usual weight, by the
validation split.
"""
