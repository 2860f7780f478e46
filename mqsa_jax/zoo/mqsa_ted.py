"""MQSA-TED: both branches, with distillation (Zhu et al., WSDM 2024, arXiv 2311.01056)."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("both branches, with distillation (Zhu et al., WSDM 2024)")
