"""MQSA-TED whose scores hold a sparse transition term: a recipe of our own.

The term is trained through, each transition left out of its own history's prediction; see
mqsa_jax/model/transition_term.py. configs/NAME_plus.py hold its settings."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("MQSA-TED with a sparse transition term in the scores", defaults={"term_items": 4})
