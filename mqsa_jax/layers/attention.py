"""L-query self-attention as a pure function of its parameters, and the layers it is made of."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.layers.windowed_mean import causal_mask, windowed_mean
from mqsa_jax.ops.products import Precision, product, row_dot, scale_rows

# Not `nn.Dense` and `nn.LayerNorm`: `l_query_attention` is a function of its parameters, to be
# called without flax; initial values would come from other keys; and row products by einsum take
# a tenth of the time of flax's sums on CPUs.

LAYER_NORM_EPSILON = 1e-12
"""Effectively none, as in the authors' code; only keeps a constant vector from giving NaN."""


def norm_init(_: Key[Array, ""], dim: int) -> dict[str, Array]:
    """Parameters of `layer_norm`, [D] each: scales of 1 and biases of 0."""
    return {"scale": jnp.ones(dim), "bias": jnp.zeros(dim)}


def layer_norm(params: Mapping[str, Array], x_D: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Layer normalisation over the last axis (Ba et al. 2016), with `scale` and `bias` [D]."""
    centred_D = x_D - x_D.mean(-1, keepdims=True)
    variance = row_dot(centred_D, centred_D) / x_D.shape[-1]
    normal_D = scale_rows(centred_D, jax.lax.rsqrt(variance + LAYER_NORM_EPSILON))
    return normal_D * params["scale"] + params["bias"]


def dense_init(key: Key[Array, ""], dim: int, width: int | None = None) -> dict[str, Array]:
    """Parameters of `dense`: Glorot uniform kernel [D, F], bias 0 [F]; F is D unless `width`."""
    width = dim if width is None else width
    kernel = nn.initializers.glorot_uniform()(key, (dim, width))
    return {"kernel": kernel, "bias": jnp.zeros(width)}


def dense(
    params: Mapping[str, Array], x_D: Float[Array, "*B D"], precision: Precision = "float32"
) -> Float[Array, "*B F"]:
    """`x @ kernel + bias`, kernel [D, F]."""
    return product("...d,df->...f", x_D, params["kernel"], precision) + params["bias"]


def _softmax(logits_T: Float[Array, "*B T"]) -> Float[Array, "*B T"]:
    """As `jax.nn.softmax`, with gradients by `row_dot`."""
    top_1 = jax.lax.stop_gradient(logits_T.max(-1, keepdims=True))
    exp_T = jnp.exp(logits_T - top_1)
    return scale_rows(exp_T, 1 / exp_T.sum(-1))


def l_query_attention(
    params: Mapping[str, Mapping[str, Array]],
    x_TD: Float[Array, "*B T D"],
    window: Int[Array, ""] | int,
    *,
    num_heads: int = 1,
    segment_ids_T: Int[Array, "*B T"] | None = None,
    drop: Callable[[Array], Array] = lambda attention_HTT: attention_HTT,
    mean_TD: Float[Array, "*B T D"] | None = None,
    precision: Precision = "float32",
) -> Float[Array, "*B T D"]:
    r"""Causal self-attention whose query is the mean of the last L positions.

    With `q = LayerNorm(windowed_mean(x, L))`:

        softmax((q Wq + bq) (x Wk + bk)^T / sqrt(D / H)) (x Wv + bv) + q

    Args:
      params: `query_norm` with `scale`, `bias` [D]; `query`, `key`, `value` with `kernel` [D, D]
        and `bias` [D].
      x_TD: [..., T, D] vectors, oldest first.
      window: L, at least 1; may be traced. 1 is ordinary causal self-attention.
      num_heads: H, a divisor of D; heads split the last axis in order.
      segment_ids_T: [..., T] history of each position, negative at padding; None: one a row.
      drop: applied to the attention weights [..., H, T, T]; a dropout, say.
      mean_TD: [..., T, D] `windowed_mean(x, L)`, where it is at hand; None: made here.
      precision: of the matrix products.

    Returns:
      [..., T, D]; at padding any finite values. NaN if a traced window is below 1.

    Raises:
      ValueError: if `num_heads` does not divide D, or a window that is known is below 1.

    Reference:
      Zhu et al., WSDM 2024, arXiv 2311.01056, section 3.
    """
    dim = x_TD.shape[-1]
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide D = {dim}")
    if segment_ids_T is None:
        segment_ids_T = jnp.zeros(x_TD.shape[:-1], jnp.int32)
    split = (*x_TD.shape[:-1], num_heads, dim // num_heads)
    if mean_TD is None:
        mean_TD = windowed_mean(x_TD, window, segment_ids_T)
    q_TD = layer_norm(params["query_norm"], mean_TD)
    query_THd = dense(params["query"], q_TD, precision).reshape(split)
    key_THd = dense(params["key"], x_TD, precision).reshape(split)
    value_THd = dense(params["value"], x_TD, precision).reshape(split)
    logits_HTT = product("...qhd,...khd->...hqk", query_THd, key_THd, precision)
    logits_HTT /= (dim // num_heads) ** 0.5
    mask_1TT = causal_mask(segment_ids_T)[..., None, :, :]
    attention_HTT = drop(_softmax(jnp.where(mask_1TT, logits_HTT, -jnp.inf)))
    mixed_THd = product("...hqk,...khd->...qhd", attention_HTT, value_THd, precision)
    return mixed_THd.reshape(x_TD.shape) + q_TD
