"""MQSA with item vectors regularised by the transition graph, instead of distillation."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "MQSA, item vectors regularised by the transition graph (GraReg)",
    fixed={"lambda_kd": 0.0},
    graph="regularised",
)
