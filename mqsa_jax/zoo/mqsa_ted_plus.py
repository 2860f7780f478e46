"""MQSA-TED whose scores hold a sparse transition term: a recipe of our own.

The encoder trains alone, and the term joins at every validation; --term-dropout below 1 trains
through the term (mqsa_jax/model/transition_term.py). Validation and test see the moving average of
the parameters. Chosen on the validation splits of Beauty and Toys; configs/NAME_plus.py hold what
is a data set's own."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "MQSA-TED with a sparse transition term in the scores, and averaged parameters",
    defaults={
        "term_items": 4,
        "term_span": 8,
        "term_neighbours": 32,
        "term_symmetric": 0.0,
        "term_weight": 12.0,
        "ema_decay": 0.995,
        # The average wavers little from epoch to epoch.
        "patience": 10,
    },
)
