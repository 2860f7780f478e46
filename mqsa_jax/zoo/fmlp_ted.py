"""FMLP-Rec with transition-aware embedding distillation."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("FMLP-Rec with distillation", defaults={"num_blocks": 2}, backbone="fmlp")
