"""Yelp, MQSA-TED with a sparse transition term in the scores: a recipe of our own.

python train.py --dataset yelp --model mqsa-ted-plus

Vectors twice as wide as the paper's, as for the other data sets; a term of a quarter of the usual
weight, by the validation split, where it gives hardly anything; and what all recipes share
(mqsa_jax/zoo/mqsa_ted_plus.py). About half an hour on one CPU core. Expect the test figures of
docs/results.md, run yelp-mqsa-ted-plus-1.
"""

from configs.yelp import config as base
from mqsa_jax.zoo.spec import with_model

config = with_model(base, "mqsa-ted-plus", dim=128, term_weight=3.0)
