"""Sparse logits, K classes a row, to be added to dense ones that are never kept."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class SparseLogits:
    """What is added to K logits of each row: value[n, k] to logit[n, item[n, k]]."""

    item: Int[Array, "*B K"]
    """Classes 0..V-1; those that are named twice in a row get both values."""
    value: Float[Array, "*B K"]
    """0 where there is nothing to add."""

    def in_range(self, num_classes: int) -> "SparseLogits":
        """These for V classes: the value of a class outside 0..V-1 becomes NaN, added to another.

        Gathers would clamp such a class, scatters drop it, and a kernel read beside its memory.
        """
        valid = is_index(self.item, num_classes)
        value = self.value * jnp.where(valid, 1, jnp.nan).astype(self.value.dtype)
        return SparseLogits(jnp.where(valid, self.item, 0), value)

    def added_to(self, logit: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        """[..., V] the logits with these; some of a row are NaN where it has a class outside V."""
        own = self.in_range(logit.shape[-1])
        add = jnp.vectorize(
            lambda logit_V, item_K, value_K: logit_V.at[item_K].add(value_K),
            signature="(v),(k),(k)->(v)",
        )
        return add(logit, own.item, own.value)

    def at(self, item: Int[Array, "*B"]) -> Float[Array, "*B"]:
        """[...] what is added to the logit of one class of each row."""
        return (self.value * (self.item == item[..., None])).sum(-1)


def is_index(index: Int[Array, "*N"], size: int) -> Bool[Array, "*N"]:
    """[...] whether each is an index of an axis of this size: 0 to size - 1."""
    return (index >= 0) & (index < size)
