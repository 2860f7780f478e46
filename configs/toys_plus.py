"""Toys, MQSA-TED with a sparse transition term in the scores: a recipe of our own.

python train.py --dataset toys --model mqsa-ted-plus

The term's settings are its defaults, chosen on the validation split of Toys; see docs/method.md.
"""

from configs.toys import config

__all__ = ["config"]
