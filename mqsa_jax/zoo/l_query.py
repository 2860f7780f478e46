"""The long branch alone, without distillation (Zhu et al., WSDM 2024, arXiv 2311.01056)."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec("the long branch alone", fixed={"alpha": 0.0, "lambda_kd": 0.0})
