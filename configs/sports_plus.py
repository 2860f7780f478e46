"""Sports, MQSA-TED with a sparse transition term in the scores: a recipe of our own.

python train.py --dataset sports --model mqsa-ted-plus

What each part gains stands in docs/results.md.
"""

from configs.sports import config

__all__ = ["config"]
