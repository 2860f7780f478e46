"""SASRec with transition-aware embedding distillation: the short branch alone."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("SASRec with distillation", fixed={"alpha": 1.0})
