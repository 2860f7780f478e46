"""The two-branch encoder: short queries (window 1) and long queries (window L), mixed by alpha.

Shape suffixes, here and everywhere: B batch, S shards (devices), R rows of packed histories,
T positions, D width, H heads, V items. L is always the query window, never a length.
"""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from mqsa_jax.layers.attention import dense, dense_init, l_query_attention, layer_norm, norm_init
from mqsa_jax.layers.dropout import keep_masks
from mqsa_jax.layers.fmlp import FMLP
from mqsa_jax.layers.gru import GRU
from mqsa_jax.models.registry import Backbone, Graph
from mqsa_jax.ops.precision import Precision
from mqsa_jax.pytree import Leaf

EMBEDDING_STDDEV = 0.01


@struct.dataclass
class Sequences:
    """Histories packed into rows, each contiguous and oldest first."""

    item: Leaf
    """int32 [..., T] item index 0..V-1; any valid index at padding."""
    position: Leaf
    """int32 [..., T] row of the position table: T - 1 for the newest item of a history."""
    segment_ids: Leaf
    """int32 [..., T] number of the history within its batch; -1 at padding."""


def position_units(sequences: Sequences) -> Int[Array, "*B T"]:
    """[..., T] a number for each position that does not depend on where it was packed."""
    return sequences.segment_ids * sequences.segment_ids.shape[-1] + sequences.position


def attention_mask(mask_TW: Float[Array, "*B T W"], num_heads: int) -> Float[Array, "*B H T T"]:
    """Dropout mask of attention weights [..., H, T queries, T keys] from W = H T draws a query.

    A weight's draw goes by the distance from its query back to its key, which packing leaves alone.
    """
    *batch, length, _ = mask_TW.shape
    mask_HTT = jnp.moveaxis(mask_TW.reshape(*batch, length, num_heads, length), -2, -3)
    place_T = jnp.arange(length)
    back_TT = jnp.maximum(place_T[:, None] - place_T[None, :], 0)
    back_HTT = back_TT.reshape((1,) * (len(batch) + 1) + back_TT.shape)
    return jnp.take_along_axis(mask_HTT, back_HTT, axis=-1)


class Block(nn.Module):
    """One attention block; see docs/method.md."""

    num_heads: int
    precision: Precision = "float32"

    @nn.compact
    def __call__(
        self,
        x_TD: Float[Array, "*B T D"],
        window: Int[Array, ""] | int,
        segment_ids_T: Int[Array, "*B T"],
        masks: Mapping[str, Array] | None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; 0 at padding. Dropout `masks` of this block, or None."""
        dim = x_TD.shape[-1]

        def drop(name: str, value: Array) -> Array:
            if masks is None:
                return value
            mask = masks[f"{self.name}/{name}"]
            return value * (attention_mask(mask, self.num_heads) if name == "attention" else mask)

        attention = {name: self.param(name, dense_init, dim) for name in ("query", "key", "value")}
        attention["query_norm"] = self.param("query_norm", norm_init, dim)
        mixed_TD = l_query_attention(
            attention,
            x_TD,
            window,
            num_heads=self.num_heads,
            segment_ids_T=segment_ids_T,
            drop=lambda weights_HTT: drop("attention", weights_HTT),
            precision=self.precision,
        )
        out_TD = layer_norm(self.param("attention_norm", norm_init, dim), mixed_TD)
        ffn_in, ffn_out = (self.param(name, dense_init, dim) for name in ("ffn_in", "ffn_out"))
        hidden_TD = drop("hidden", nn.relu(dense(ffn_in, out_TD, self.precision)))
        out_TD = out_TD + drop("output", dense(ffn_out, hidden_TD, self.precision))
        return jnp.where((segment_ids_T >= 0)[..., None], out_TD, 0)


class Branch(nn.Module):
    """Blocks and a closing LayerNorm; short and long branch differ in the window only."""

    num_blocks: int
    num_heads: int
    precision: Precision = "float32"

    def mask_widths(self, dim: int, length: int) -> dict[str, int]:
        """Draws a position that each dropout of this branch takes."""
        widths = {"attention": self.num_heads * length, "hidden": dim, "output": dim}
        return {
            f"block_{block}/{name}": width
            for block in range(self.num_blocks)
            for name, width in widths.items()
        }

    @nn.compact
    def __call__(self, x_TD, window, segment_ids_T, masks: Mapping[str, Array] | None):
        """[..., T, D] to [..., T, D]."""
        for block in range(self.num_blocks):
            name = f"block_{block}"
            x_TD = Block(self.num_heads, self.precision, name=name)(
                x_TD, window, segment_ids_T, masks
            )
        return layer_norm(self.param("output_norm", norm_init, x_TD.shape[-1]), x_TD)


class Encoder(nn.Module):
    """Histories to user vectors, one at every position."""

    num_items: int
    dim: int
    max_len: int
    num_blocks: int
    num_heads: int
    precision: Precision = "float32"
    backbone: Backbone = "attention"
    graph: Graph = "unused"
    """How the graph of item transitions enters the item vectors; see `item_vectors`."""
    num_recent: int = 0
    """K, recent items that the transition term of the scores looks at; 0: there is no term."""
    term_trained: bool = False
    """Whether the term takes part in training, or in scores alone."""

    def _parts(self) -> dict[str, nn.Module]:
        """The modules that work on the sequence, by name."""
        if self.backbone == "attention":
            sizes = (self.num_blocks, self.num_heads, self.precision)
            return {name: Branch(*sizes, name=name) for name in ("short", "long")}
        kind = {"gru": GRU, "fmlp": FMLP}[self.backbone]
        return {self.backbone: kind(self.num_blocks, self.precision, name=self.backbone)}

    @nn.compact
    def __call__(self, sequences: Sequences, window, alpha, draw=None, item_VD=None):
        """Sequences [..., T] to user vectors [..., T, D]; `draw(widths)` makes dropout masks.

        `item_VD` are the vectors of the items, if not the embedding itself.
        """
        normal = nn.initializers.normal(EMBEDDING_STDDEV)
        embedding_VD = self.param("item_embedding", normal, (self.num_items, self.dim))
        item_VD = embedding_VD if item_VD is None else item_VD
        segment_ids_T = sequences.segment_ids
        parts = self._parts()
        masks = dict.fromkeys(parts)
        x_TD = self.dim**0.5 * item_VD[sequences.item]
        if self.backbone != "gru":  # which counts positions by itself
            position_TD = self.param("position_embedding", normal, (self.max_len, self.dim))
            x_TD += position_TD[sequences.position]
        if self.backbone == "fmlp":
            x_TD = layer_norm(self.param("input_norm", norm_init, self.dim), x_TD)
        if draw is not None:
            length = segment_ids_T.shape[-1]
            widths = {name: part.mask_widths(self.dim, length) for name, part in parts.items()}
            masks = draw({"input": {"x": self.dim}, **widths})
            x_TD *= masks["input"]["x"]
        x_TD = jnp.where((segment_ids_T >= 0)[..., None], x_TD, 0)
        if self.backbone != "attention":
            return parts[self.backbone](x_TD, segment_ids_T, masks[self.backbone])
        short_TD = parts["short"](x_TD, 1, segment_ids_T, masks["short"])
        long_TD = parts["long"](x_TD, window, segment_ids_T, masks["long"])
        return alpha * short_TD + (1 - alpha) * long_TD


Params = Mapping[str, Array | Mapping]


def init(encoder: Encoder, key: Key[Array, ""]) -> Params:
    """Parameters as a dict pytree: normal(0.01) embeddings, Glorot uniform kernels, zero biases."""
    blank_1T = jnp.zeros((1, encoder.max_len), jnp.int32)
    return encoder.init(key, Sequences(blank_1T, blank_1T, blank_1T), 1, 0.5)["params"]


def apply(
    encoder: Encoder,
    params: Params,
    sequences: Sequences,
    *,
    window: Int[Array, ""] | int,
    alpha: Float[Array, ""] | float,
    dropout: Float[Array, ""] | float = 0.0,
    key: Key[Array, ""] | None = None,
    item_VD: Float[Array, "V D"] | None = None,
) -> Float[Array, "*B T D"]:
    """User vector at every position of every history; `user @ item_VD.T` are the scores.

    Args:
      encoder: sizes of the model.
      params: as `init` returns them.
      sequences: histories, packed or one a row, [..., T] each.
      window: L, the query window of the long branch; may be traced.
      alpha: share of the short branch, 0 to 1; may be traced.
      dropout: probability of dropping a unit; may be traced. Used only with a key.
      key: randomness of dropout; None at evaluation: nothing is dropped.
      item_VD: [V, D] vectors of the items; None: the embedding.

    Returns:
      [..., T, D]; the last position of a history holds the vector that predicts its next item.
    """
    draw = None if key is None else partial(keep_masks, key, dropout, position_units(sequences))
    return encoder.apply({"params": params}, sequences, window, alpha, draw, item_VD)
