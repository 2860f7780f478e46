"""The transition counts that a configuration asks for: of the teacher, and of the term."""

from mqsa_jax.config import Config
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.multi_step import multi_step
from mqsa_jax.data.transitions import TransitionCounts, training_transitions


def teacher_counts(histories: Histories, config: Config) -> TransitionCounts:
    """Transitions that the teacher learns from; not under jit."""
    objective = config.objective
    counts = training_transitions(
        histories,
        config.model.max_len,
        time_span=objective.time_span,
        decay=objective.span_decay,
        symmetric=objective.symmetric,
        popularity=objective.popularity,
    )
    return multi_step(counts, objective.multi_step, objective.span_decay)


def term_counts(histories: Histories, config: Config) -> TransitionCounts:
    """Transitions of the sparse term of the scores; not under jit."""
    term = config.term
    return training_transitions(
        histories,
        config.model.max_len,
        time_span=term.term_span,
        decay=term.term_span_decay,
        symmetric=term.term_symmetric,
    )
