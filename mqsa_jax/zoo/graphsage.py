"""MQSA on item vectors that GraphSAGE makes of the transition graph (Hamilton et al. 2017)."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "MQSA, item vectors by GraphSAGE over the transition graph",
    fixed={"lambda_kd": 0.0},
    graph="graphsage",
)
