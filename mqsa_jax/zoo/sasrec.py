"""SASRec trained with cross-entropy: the short branch alone, without distillation.

Kang and McAuley, ICDM 2018, arXiv 1808.09781; the loss as in Klenitskiy and Vasilev, RecSys
2023."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "self-attention (Kang and McAuley, ICDM 2018), cross-entropy",
    fixed={"alpha": 1.0, "lambda_kd": 0.0},
)
