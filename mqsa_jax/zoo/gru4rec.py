"""GRU4Rec trained with cross-entropy (Hidasi et al., ICLR 2016, arXiv 1511.06939)."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "recurrent network (Hidasi et al., ICLR 2016), cross-entropy",
    fixed={"lambda_kd": 0.0},
    backbone="gru",
)
