"""GRU4Rec with transition-aware embedding distillation."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("GRU4Rec with distillation", backbone="gru")
