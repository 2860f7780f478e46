"""The encoder, histories to user vectors: by default two attention branches mixed by alpha.

Shape suffixes, here and everywhere: B batch, S shards (devices), R rows of packed histories,
T positions, D width, H heads, V items. L is always the query window, never a length.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.data.sequences import Sequences
from mqsa_jax.layers.attention import dense, dense_init, l_query_attention, layer_norm, norm_init
from mqsa_jax.layers.dropout import Copies
from mqsa_jax.layers.fmlp import FMLP
from mqsa_jax.layers.gru import GRU
from mqsa_jax.layers.windowed_mean import windowed_mean
from mqsa_jax.models.registry import Backbone
from mqsa_jax.ops.products import Precision
from mqsa_jax.ops.sharded_table import Table, rows_at
from mqsa_jax.ops.sparse_logits import is_index

EMBEDDING_STDDEV = 0.01

Widths = Mapping[str, Any]
"""Nested by module and name: random numbers a position that each dropout takes, W."""
Masks = Mapping[str, Any]
"""Nested in the same way: scaled dropout masks [..., T, W]; of branches [2, ..., T, W]."""

BRANCHES = ("long", "short")
"""In the order of their parameters' names, which is that of their draws for dropout."""


def attention_mask(mask_TW: Float[Array, "*B T W"], num_heads: int) -> Float[Array, "*B H T T"]:
    """Dropout mask of attention weights [..., H, T queries, T keys] from W = H T draws a query.

    A weight's draw goes by the distance from its query back to its key, which packing leaves alone.
    """
    *batch, length, _ = mask_TW.shape
    mask_HTT = jnp.moveaxis(mask_TW.reshape(*batch, length, num_heads, length), -2, -3)
    column_T = jnp.arange(length)
    distance_TT = jnp.maximum(column_T[:, None] - column_T[None, :], 0)
    distance_HTT = distance_TT.reshape((1,) * (len(batch) + 1) + distance_TT.shape)
    return jnp.take_along_axis(mask_HTT, distance_HTT, axis=-1, mode="clip")


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
        masks: Mapping[str, Array] | None = None,
        mean_TD: Float[Array, "*B T D"] | None = None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; 0 at padding.

        Dropout `masks` by name: `attention` [..., T, H T], `hidden` and `output` [..., T, D].
        `mean_TD` as of `l_query_attention`.
        """
        dim = x_TD.shape[-1]

        def drop(name: str, value: Array) -> Array:
            return value if masks is None else value * masks[name]

        def drop_attention(weights_HTT: Array) -> Array:
            if not self.is_initializing():
                self.sow("attention", "weights", weights_HTT)  # Kept only for who asks for it.
            if masks is None:
                return weights_HTT
            return weights_HTT * attention_mask(masks["attention"], self.num_heads)

        attention = {name: self.param(name, dense_init, dim) for name in ("query", "key", "value")}
        attention["query_norm"] = self.param("query_norm", norm_init, dim)
        mixed_TD = l_query_attention(
            attention,
            x_TD,
            window,
            num_heads=self.num_heads,
            segment_ids_T=segment_ids_T,
            drop=drop_attention,
            mean_TD=mean_TD,
            precision=self.precision,
        )
        out_TD = layer_norm(self.param("attention_norm", norm_init, dim), mixed_TD)
        ffn_in, ffn_out = (self.param(name, dense_init, dim) for name in ("ffn_in", "ffn_out"))
        hidden_TD = drop("hidden", nn.relu(dense(ffn_in, out_TD, self.precision)))
        out_TD = out_TD + drop("output", dense(ffn_out, hidden_TD, self.precision))
        return jnp.where((segment_ids_T >= 0)[..., None], out_TD, 0)


class Branch(nn.Module):
    """Blocks and a closing LayerNorm; the short and the long branch differ in the window only."""

    num_blocks: int
    num_heads: int
    precision: Precision = "float32"

    def mask_widths(self, dim: int, length: int) -> Widths:
        """Widths of the dropout masks of `__call__`, by block."""
        widths = {"attention": self.num_heads * length, "hidden": dim, "output": dim}
        return {f"block_{block}": widths for block in range(self.num_blocks)}

    @nn.compact
    def __call__(
        self,
        x_TD: Float[Array, "*B T D"],
        window: Int[Array, ""] | int,
        segment_ids_T: Int[Array, "*B T"],
        masks: Masks | None = None,
        mean_TD: Float[Array, "*B T D"] | None = None,
    ) -> Float[Array, "*B T D"]:
        """[..., T, D] to [..., T, D]; `masks` by block, as `Block` takes them, and `mean_TD` for
        the first one."""
        for block in range(self.num_blocks):
            name = f"block_{block}"
            module = Block(self.num_heads, self.precision, name=name)
            x_TD = module(x_TD, window, segment_ids_T, masks and masks[name], mean_TD)
            mean_TD = None
        return layer_norm(self.param("output_norm", norm_init, x_TD.shape[-1]), x_TD)


class Encoder(nn.Module):
    """Item vectors and histories to user vectors, one at every position."""

    num_items: int
    dim: int
    max_len: int
    num_blocks: int
    num_heads: int
    precision: Precision = "float32"
    backbone: Backbone = "attention"

    @nn.nowrap
    def _modules(self) -> dict[str, nn.Module]:
        """The modules that work on the sequence, by name."""
        if self.backbone == "attention":
            return {name: self._branch(name=name) for name in ("short", "long")}
        kind = {"gru": GRU, "fmlp": FMLP}[self.backbone]
        return {self.backbone: kind(self.num_blocks, self.precision, name=self.backbone)}

    @nn.nowrap
    def _branch(self, **options: Any) -> Branch:
        return Branch(self.num_blocks, self.num_heads, self.precision, **options)

    @nn.nowrap
    def mask_widths(self, length: int) -> Widths:
        """Widths of the dropout masks of `__call__`, by module; `length` is T."""
        if self.backbone == "attention":
            widths = self._branch(parent=None).mask_widths(self.dim, length)
            return {"input": self.dim, "two_branches": Copies(len(BRANCHES), widths)}
        modules = self._modules()
        widths = {name: module.mask_widths(self.dim, length) for name, module in modules.items()}
        return {"input": self.dim, **widths}

    @nn.compact
    def __call__(
        self,
        sequences: Sequences,
        window: Int[Array, ""] | int,
        alpha: Float[Array, ""] | float,
        masks: Masks | None = None,
        item_VD: Table | None = None,
    ) -> Float[Array, "*B T D"]:
        """Sequences [..., T] to user vectors [..., T, D].

        Args:
          sequences: histories, packed or one a row.
          window: L of the long branch.
          alpha: weight of the short branch.
          masks: dropout masks of the widths that `mask_widths` gives; None: nothing is dropped.
          item_VD: [V, D] vectors of the items; None: the parameter `item_embedding`.
        """
        normal = nn.initializers.normal(EMBEDDING_STDDEV)
        if item_VD is None:
            item_VD = self.param("item_embedding", normal, (self.num_items, self.dim))
        segment_ids_T = sequences.segment_ids
        x_TD = self.dim**0.5 * rows_at(item_VD, sequences.item)
        if self.backbone != "gru":  # A recurrent network has no need of a position table.
            position_TD = self.param("position_embedding", normal, (self.max_len, self.dim))
            x_TD += position_TD[sequences.position]
        if self.backbone == "fmlp":
            x_TD = layer_norm(self.param("input_norm", norm_init, self.dim), x_TD)
        if masks is not None:
            x_TD *= masks["input"]
        x_TD = jnp.where((segment_ids_T >= 0)[..., None], x_TD, 0)
        modules = self._modules()
        if self.backbone != "attention":
            own = masks and masks[self.backbone]
            return modules[self.backbone](x_TD, segment_ids_T, own)
        if self.is_initializing():
            return sum(module(x_TD, 1, segment_ids_T) for module in modules.values())
        own = masks and masks["two_branches"]
        long_TD, short_TD = self._branches(x_TD, window, segment_ids_T, own)
        return alpha * short_TD + (1 - alpha) * long_TD

    def _branches(self, x_TD, window, segment_ids_T, masks):
        """[2, ..., T, D] of `BRANCHES`: alike but for the window, so that one program runs both."""
        branch, params = self._branch(parent=None), self.variables["params"]

        def run(params, x_TD, window, masks, mean_TD):
            inputs = (x_TD, window, segment_ids_T, masks, mean_TD)
            return branch.apply({"params": params}, *inputs, mutable=["attention"])

        x_2TD = jnp.broadcast_to(x_TD, (2, *x_TD.shape))
        mean_2TD = None
        if masks is None:
            # In the first block a window of 1 has x, 0 at padding, for its mean: no product for it.
            # In training, the gradient of the stack would take more kernels than this saves.
            mean_2TD = jnp.stack([windowed_mean(x_TD, window, segment_ids_T), x_TD])
        params_2 = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(params.get, BRANCHES))
        windows_2 = jnp.stack([window, 1])
        out_2TD, kept_2 = jax.vmap(run)(params_2, x_2TD, windows_2, masks, mean_2TD)
        self.sow("attention", "branches", kept_2["attention"])
        return out_2TD


def newest_attention(
    encoder: Encoder,
    params: Mapping[str, Any],
    sequences: Sequences,
    window: Int[Array, ""] | int,
    item_VD: Float[Array, "V D"],
) -> Float[Array, "2 B T"]:
    """Attention of the newest item of each history, of the short and the long branch.

    It is that of the last block, the mean over heads; a history's weights sum to 1.

    Args:
      encoder: with attention for its backbone.
      params: of the encoder.
      sequences: histories [B, T], one a row, aligned right.
      window: L of the long branch.
      item_VD: [V, D] vectors of the items.
    """
    sequences = jax.tree.map(jnp.asarray, sequences)
    _, kept = encoder.apply(
        {"params": params}, sequences, window, 0.5, None, item_VD, mutable=["attention"]
    )
    (kept_2,) = kept["attention"]["branches"]
    (weight_2BHTT,) = kept_2[f"block_{encoder.num_blocks - 1}"]["weights"]
    return weight_2BHTT[::-1, :, :, -1].mean(2)


def rows_are_valid(sequences: Sequences, num_items: int, max_len: int) -> Bool[Array, "*B"]:
    """[...] whether the items and positions of each row [..., T] are in range, but for padding."""
    valid_T = is_index(sequences.item, num_items) & is_index(sequences.position, max_len)
    return (valid_T | (sequences.segment_ids < 0)).all(-1)
