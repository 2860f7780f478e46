"""Sequential recommendation on JAX: MQSA-TED (Zhu et al., WSDM 2024, arXiv 2311.01056).

The pure functions below are imported when they are first used, so that importing the package, as
the command lines do, does not wait for JAX.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "windowed_mean": "model.windowed_mean",
    "l_query_attention": "model.attention",
    "count_transitions": "objectives.transitions",
    "multi_step": "objectives.multi_step",
    "transition_teacher": "objectives.teacher",
    "teacher_probabilities": "objectives.teacher",
    "ranking_loss": "objectives.ranking",
    "distillation_loss": "objectives.distillation",
    "hit_rate": "objectives.metrics",
    "ndcg": "objectives.metrics",
    "reciprocal_rank": "objectives.metrics",
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
