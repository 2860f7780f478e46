"""Beauty, MQSA-TED with a sparse transition term in the scores: a recipe of our own.

python train.py --dataset beauty --model mqsa-ted-plus

Vectors twice as wide as the paper's, chosen on the validation split at τ = 0.1, and what all
recipes share (mqsa_jax/zoo/mqsa_ted_plus.py). About half an hour on one CPU core. Expect the test
figures of docs/results.md, run beauty-mqsa-ted-plus-1.
"""

from configs.beauty import config as base
from mqsa_jax.zoo.spec import with_model

config = with_model(base, "mqsa-ted-plus", dim=128, tau=0.1)
