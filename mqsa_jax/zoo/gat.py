"""MQSA on item vectors that graph attention makes of the transitions (Velickovic et al. 2018)."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "MQSA, item vectors by graph attention over the transition graph",
    fixed={"lambda_kd": 0.0},
    graph="gat",
)
