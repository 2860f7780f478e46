"""MQSA-TED whose scores hold a sparse transition term: a recipe of our own.

The encoder trains alone, and the term joins at every validation; --term-dropout below 1 trains
through the term. See mqsa_jax/model/transition_term.py; configs/NAME_plus.py hold its settings."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("MQSA-TED with a sparse transition term in the scores", defaults={"term_items": 4})
