"""What each flag accepts, as a test and its wording; without JAX."""

import math
from typing import Any

_AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
_NOT_NEGATIVE = (lambda v: math.isfinite(v) and v >= 0, "a finite number, 0 or above")
_POSITIVE = (lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
_SHARE = (lambda v: 0 <= v <= 1, "between 0 and 1")
_FACTOR = (lambda v: 0 < v <= 1, "above 0 and at most 1")
_RANGES = {
    "dim": _AT_LEAST_1,
    "num_blocks": _AT_LEAST_1,
    "num_heads": _AT_LEAST_1,
    "window": _AT_LEAST_1,
    "alpha": _SHARE,
    "dropout": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    # The newest of the max_len items is a target alone, so that one item would train nothing.
    "max_len": (lambda v: v >= 2, "at least 2"),
    "lambda_kd": _NOT_NEGATIVE,
    "tau": _POSITIVE,
    "time_span": _AT_LEAST_1,
    "span_decay": _FACTOR,
    "symmetric": _SHARE,
    "popularity": _NOT_NEGATIVE,
    "multi_step": _AT_LEAST_1,
    "l2": _NOT_NEGATIVE,
    "lambda_graph": _NOT_NEGATIVE,
    "term_items": (lambda v: v >= 0, "0 or above"),
    "term_neighbours": _AT_LEAST_1,
    "term_weight": _POSITIVE,
    "term_decay": _FACTOR,
    "term_dropout": _SHARE,
    "term_span": _AT_LEAST_1,
    "term_span_decay": _FACTOR,
    "term_symmetric": _SHARE,
    "term_popularity": _NOT_NEGATIVE,
    "lr": _POSITIVE,
    "ema_decay": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "batch_size": _AT_LEAST_1,
    "epochs": _AT_LEAST_1,
    "patience": _AT_LEAST_1,
    "seed": (lambda v: 0 <= v < 2**32, "between 0 and 4294967295"),
    "devices": _AT_LEAST_1,
}


def problem(name: str, value: Any) -> str | None:
    """What the value of flag `name` must be, if it is not; None where it is right."""
    if value is None or name not in _RANGES:
        return None
    accepts, wording = _RANGES[name]
    return None if accepts(value) else wording
