"""FMLP-Rec with causal filters over packed rows."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mqsa_jax.layers.attention import dense, dense_init, layer_norm, norm_init
from mqsa_jax.ops.products import Precision, product

FREQUENCY_STDDEV = 0.02
"""Of the real and of the imaginary part of the authors' filter at each frequency, at first."""


def causal_filter(
    kernel_TD: Float[Array, "T D"],
    x_TD: Float[Array, "*B T D"],
    segment_ids_T: Int[Array, "*B T"],
    precision: Precision = "float32",
) -> Float[Array, "*B T D"]:
    r"""Causal linear convolution over positions, channel by channel, within each history:

        y[t] = sum_{l = 0, ..., t - s} kernel[l] * x[t - l],   s the first position of t's history

    By halves: from a row's left half to its right one reaches only the history at the last left
    position, so the mask splits into two factors: x, set to 0 outside that history, times one
    Toeplitz matrix, set to 0 outside it again. So on within each half: log2(T) products. A loop
    over lags is no faster on CPUs, and T steps long; FFTs need histories unpacked, one a row.

    Args:
      kernel_TD: [T, D] filter, lag 0 first.
      x_TD: [..., T, D] vectors, oldest first; 0 at padding.
      segment_ids_T: [..., T] history of each position, each contiguous.
      precision: of the matrix products.

    Returns:
      [..., T, D]; meaningless at padding.

    Example:
      >>> kernel_TD = jnp.array([[1.0], [0.5], [0.25]])
      >>> x_TD, segment_ids_T = jnp.array([[4.0], [8.0], [2.0]]), jnp.array([0, 0, 1])
      >>> causal_filter(kernel_TD, x_TD, segment_ids_T).ravel().tolist()  # 8 + 4 / 2 = 10
      [4.0, 10.0, 2.0]
    """
    length, dim = x_TD.shape[-2:]
    half = 2 ** (length - 1).bit_length()  # a whole row at first
    fill = (0, half - length)
    # Channels first, since products are batched over them; then rows, then positions.
    x_DRT = jnp.moveaxis(x_TD.reshape(-1, length, dim), -1, 0)
    x_DRT = jnp.pad(x_DRT, ((0, 0), (0, 0), fill))
    segment_ids_RT = jnp.pad(segment_ids_T.reshape(-1, length), ((0, 0), fill), constant_values=-1)
    kernel_TD = jnp.pad(kernel_TD, (fill, (0, 0)))
    y_DRT = kernel_TD[0][:, None, None] * x_DRT
    while half := half // 2:
        y_DRT += _across_halves(kernel_TD, x_DRT, segment_ids_RT, half, precision)
    return jnp.moveaxis(y_DRT[..., :length], 0, -1).reshape(x_TD.shape)


def _across_halves(kernel_TD, x_DRT, segment_ids_RT, half, precision):
    """What comes from left halves to right ones, [D, R, T]; pieces P of a row have two halves."""
    x_DRP2S = x_DRT.reshape(*x_DRT.shape[:2], -1, 2, half)
    segment_ids_RP2S = segment_ids_RT.reshape(x_DRP2S.shape[1:])
    crosses_RP2S = segment_ids_RP2S == segment_ids_RP2S[..., :1, -1:]
    index = jnp.arange(half)
    kernel_TSD = kernel_TD[half + index[:, None] - index]
    x_DRPS = jnp.where(crosses_RP2S[..., 0, :], x_DRP2S[..., 0, :], 0)
    y_DRPT = product("tsd,drps->drpt", kernel_TSD, x_DRPS, precision)
    y_DRPT = jnp.where(crosses_RP2S[..., 1, :], y_DRPT, 0)
    return jnp.stack([jnp.zeros_like(y_DRPT), y_DRPT], axis=-2).reshape(x_DRT.shape)


class FilterBlock(nn.Module):
    """One block: filter and feed-forward, each with a residual and a LayerNorm behind it."""

    precision: Precision = "float32"

    @nn.compact
    def __call__(
        self,
        x_TD: Float[Array, "*B T D"],
        segment_ids_T: Int[Array, "*B T"],
        masks: Mapping[str, Array] | None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; x is 0 at padding, and so is what comes out."""
        length, dim = x_TD.shape[-2:]

        def drop(name: str, value: Array) -> Array:
            return value if masks is None else value * masks[name]

        normal = nn.initializers.normal(FREQUENCY_STDDEV * (2 / length) ** 0.5)
        kernel_TD = self.param("filter", normal, (length, dim))
        filtered_TD = causal_filter(kernel_TD, x_TD, segment_ids_T, self.precision)
        x_TD = x_TD + drop("filter", filtered_TD)
        x_TD = layer_norm(self.param("filter_norm", norm_init, dim), x_TD)
        ffn_in = self.param("ffn_in", dense_init, dim, 4 * dim)
        ffn_out = self.param("ffn_out", dense_init, 4 * dim, dim)
        hidden_TF = nn.gelu(dense(ffn_in, x_TD, self.precision), approximate=False)
        x_TD = x_TD + drop("output", dense(ffn_out, hidden_TF, self.precision))
        x_TD = layer_norm(self.param("ffn_norm", norm_init, dim), x_TD)
        return jnp.where((segment_ids_T >= 0)[..., None], x_TD, 0)


class FMLP(nn.Module):
    r"""FMLP-Rec with the causal form of its learnable filter.

    The authors multiply the spectrum of a row by a learnable one. By the convolution theorem that
    is a circular convolution over positions: each is mixed with all others, later ones included.
    They train on the last position alone; here each position is to predict its next item, which
    that filter would show it. So the filter is learnt as the kernel over positions, [T lags, D],
    and applied as a causal linear convolution: a position receives itself and the earlier ones of
    its own history; nothing wraps around or crosses from one history into another.

    The authors' spectrum starts with independent real and imaginary parts of deviation s = 0.02 at
    T / 2 + 1 frequencies. At every lag the circular kernel then has, for even T, the variance
    `s**2 (2 T - 2) / T**2`. Here lags start as independent normal numbers of variance
    `2 s**2 / T`: nearly no filter, so that a block starts as its residual and feed-forward. Dense
    kernels start Glorot uniform as in the other backbones, not normal as the authors'.

    The authors' LayerNorm of the embeddings comes before this, in `Encoder`; their item vectors are
    not scaled by sqrt(D), which it makes good.

    Parameters: in `block_N`, N from 0, `filter` [T, D]; `filter_norm`, `ffn_norm` as of
    `layer_norm`; `ffn_in`, `ffn_out` as of `dense`. T, the length of rows, must stay the same.

    Reference:
      Zhou et al., WWW 2022, arXiv 2202.13556, section 3.
    """

    num_blocks: int
    precision: Precision = "float32"

    def mask_widths(self, dim: int, length: int) -> dict[str, dict[str, int]]:
        """Draws a position that each dropout of the blocks takes."""
        names = ("filter", "output")
        return {f"block_{block}": dict.fromkeys(names, dim) for block in range(self.num_blocks)}

    @nn.compact
    def __call__(
        self,
        x_TD: Float[Array, "*B T D"],
        segment_ids_T: Int[Array, "*B T"],
        masks: Mapping[str, Mapping[str, Array]] | None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; 0 at padding, where x may be anything.

        Dropout `masks` [..., T, D], nested as `mask_widths`, or None.
        """
        x_TD = jnp.where((segment_ids_T >= 0)[..., None], x_TD, 0)
        for block in range(self.num_blocks):
            name = f"block_{block}"
            block_module = FilterBlock(self.precision, name=name)
            x_TD = block_module(x_TD, segment_ids_T, masks and masks[name])
        return x_TD
