"""Sports, MQSA-TED with a sparse transition term in the scores: a recipe of our own.

python train.py --dataset sports --model mqsa-ted-plus

Its settings are those that all recipes share: mqsa_jax/zoo/mqsa_ted_plus.py. Expect the
test figures of docs/results.md, run sports-mqsa-ted-plus-1.
"""

from configs.sports import config as base
from mqsa_jax.zoo.spec import with_model

config = with_model(base, "mqsa-ted-plus")
