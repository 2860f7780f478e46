"""Decayed, symmetric transitions over several steps, from the latest items; not trained.

A transition term like that of `mqsa-ted-plus`, alone and with all entries, at the settings that are
the defaults of the flags: see mqsa_jax/model/transition_term.py.
"""

from mqsa_jax.zoo.spec import ModelSpec


def counting(experiment):
    """M as in the term, with all of its entries."""
    from mqsa_jax.inference.counting import Counting

    term = experiment.config.term
    return Counting(experiment.term_matrix(), term.term_decay, term.term_items)


spec = ModelSpec(
    "decayed transitions over several steps, both ways, from the latest items; not trained",
    defaults={"term_items": 4},
    counting=counting,
)
