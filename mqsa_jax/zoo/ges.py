"""MQSA on smoothed embeddings: GES (Zhu et al., TKDE 2021), instead of distillation."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "MQSA, item vectors smoothed over the transition graph (GES)",
    fixed={"lambda_kd": 0.0},
    graph="smoothed",
)
