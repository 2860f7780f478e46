"""Sequential recommendation on JAX: MQSA-TED (Zhu et al., WSDM 2024, arXiv 2311.01056).

The pure functions below are imported when they are first used, so that importing the package, as
the command lines do, does not wait for JAX.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "windowed_mean": "layers.windowed_mean",
    "l_query_attention": "layers.attention",
    "count_transitions": "data.transitions",
    "multi_step": "data.multi_step",
    "transition_teacher": "losses.teacher",
    "teacher_probabilities": "losses.teacher",
    "ranking_loss": "losses.ranking",
    "distillation_loss": "losses.distillation",
    "hit_rate": "losses.metrics",
    "ndcg": "losses.metrics",
    "reciprocal_rank": "losses.metrics",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    """Imports a public function from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public functions."""
    return sorted([*globals(), *__all__])
