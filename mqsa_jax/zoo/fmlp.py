"""FMLP-Rec trained with cross-entropy, its filter made causal (Zhou et al., WWW 2022).

arXiv 2202.13556; see mqsa_jax/model/fmlp.py for what differs."""

from mqsa_jax.zoo.spec import ModelSpec

spec = ModelSpec(
    "filter-enhanced MLP (Zhou et al., WWW 2022), causal, cross-entropy",
    fixed={"lambda_kd": 0.0},
    defaults={"num_blocks": 2},
    backbone="fmlp",
)
