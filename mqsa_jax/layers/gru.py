"""GRU4Rec: gated recurrent units over packed rows."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.layers.attention import dense, dense_init
from mqsa_jax.ops.products import Precision


def gru_init(key: Key[Array, ""], dim: int) -> dict[str, dict[str, Array]]:
    """Parameters of `gru_layer`: Glorot uniform kernels [D, 3 D] and zero biases [3 D]."""
    input_key, recurrent_key = jax.random.split(key)
    return {
        "input": dense_init(input_key, dim, 3 * dim),
        "recurrent": dense_init(recurrent_key, dim, 3 * dim),
    }


def gru_cell(
    recurrent: Mapping[str, Array],
    hidden_D: Float[Array, "*B D"],
    input_F: Float[Array, "*B F"],
    precision: Precision,
) -> Float[Array, "*B D"]:
    """The state h' of `gru_layer` after one more position, from h and F = 3 D inputs `x W + a`."""
    recurrent_F = dense(recurrent, hidden_D, precision)
    reset_D, update_D, candidate_D = jnp.split(input_F, 3, axis=-1)
    reset_h_D, update_h_D, candidate_h_D = jnp.split(recurrent_F, 3, axis=-1)
    reset_D = jax.nn.sigmoid(reset_D + reset_h_D)
    update_D = jax.nn.sigmoid(update_D + update_h_D)
    candidate_D = jnp.tanh(candidate_D + reset_D * candidate_h_D)
    return (1 - update_D) * candidate_D + update_D * hidden_D


def gru_layer(
    params: Mapping[str, Mapping[str, Array]],
    x_TD: Float[Array, "*B T D"],
    segment_ids_T: Int[Array, "*B T"],
    precision: Precision = "float32",
) -> Float[Array, "*B T D"]:
    r"""Hidden state after each position, counted from the start of its history.

    With h the state one position before, and 0 at the first position of a history:

        r = sigmoid(x Wr + ar + h Ur + br)
        z = sigmoid(x Wz + az + h Uz + bz)
        n = tanh(x Wn + an + r * (h Un + bn))
        h' = (1 - z) * n + z * h

    Args:
      params: `input` with `kernel` [D, 3 D], W of the gates r, z, n in this order, and `bias`
        [3 D], a; `recurrent` likewise with U and b. Of r and z only the sum a + b counts; there
        are two as in cuDNN and PyTorch, whose weights these are, transposed.
      x_TD: [..., T, D] vectors, oldest first.
      segment_ids_T: [..., T] history of each position, several to a row, each contiguous; a run of
        padding counts as one.
      precision: of the matrix products. Those of x are one product, before the scan over T.

    Returns:
      [..., T, D]; meaningless at padding.

    Reference:
      Cho et al., EMNLP 2014, arXiv 1406.1078, as varied by cuDNN: r is applied after U.
    """
    input_TF = dense(params["input"], x_TD, precision)
    same_T = segment_ids_T[..., 1:] == segment_ids_T[..., :-1]
    goes_on_T1 = jnp.pad(same_T, [(0, 0)] * (same_T.ndim - 1) + [(1, 0)])[..., None]

    def step(hidden_D, position):
        input_F, goes_on_1 = position
        hidden_D = jnp.where(goes_on_1, hidden_D, 0)
        hidden_D = gru_cell(params["recurrent"], hidden_D, input_F, precision)
        return hidden_D, hidden_D

    positions = jnp.moveaxis(input_TF, -2, 0), jnp.moveaxis(goes_on_T1, -2, 0)
    start_D = jnp.zeros_like(input_TF[..., 0, : x_TD.shape[-1]])
    _, hidden_TD = jax.lax.scan(step, start_D, positions)
    return jnp.moveaxis(hidden_TD, 0, -2)


class GRU(nn.Module):
    """GRU4Rec: recurrent layers, dropout on each one's output, and a closing dense layer.

    The backbone alone; items go in as vectors, scaled by sqrt(D) as in the other backbones and
    without positions, and user vectors come out. flax's `GRUCell` would
    do the same with six matrix products a position, three of which need not wait for the state.

    Parameters: `layer_N` as of `gru_layer`, N from 0, and `output` with `kernel` [D, D], `bias`.

    Reference:
      Hidasi et al., ICLR 2016, arXiv 1511.06939. The closing layer, and Glorot kernels over all
      gates at once, are RecBole's; its recurrent layers have no biases.
    """

    num_layers: int
    precision: Precision = "float32"

    def mask_widths(self, dim: int, length: int) -> dict[str, int]:
        """Draws a position that the dropout of each layer takes."""
        return {f"layer_{layer}": dim for layer in range(self.num_layers)}

    @nn.compact
    def __call__(
        self,
        x_TD: Float[Array, "*B T D"],
        segment_ids_T: Int[Array, "*B T"],
        masks: Mapping[str, Array] | None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; 0 at padding, where x may be anything.

        Dropout `masks` [..., T, D] by the names of `mask_widths`, or None.
        """
        dim = x_TD.shape[-1]
        real_T1 = (segment_ids_T >= 0)[..., None]
        x_TD = jnp.where(real_T1, x_TD, 0)
        for layer in range(self.num_layers):
            name = f"layer_{layer}"
            x_TD = gru_layer(self.param(name, gru_init, dim), x_TD, segment_ids_T, self.precision)
            if masks is not None:
                x_TD = x_TD * masks[name]
        out_TD = dense(self.param("output", dense_init, dim), x_TD, self.precision)
        return jnp.where(real_T1, out_TD, 0)
