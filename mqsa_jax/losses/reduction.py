"""`where=` and `reduce_fn=`: the contract of every loss and metric here, which is that of rax.

    fn(..., where=None, reduce_fn=jnp.mean)

`where` says which rows count; None: all. A row that does not count may hold anything: NaN, infinite
numbers, indices out of range. It does not change the value, and gradients by it are exactly 0.

`reduce_fn(value, where=where)` reduces the values of all rows to one number. It may be any
function, linear or not: `jnp.mean`, `jnp.sum`, `functools.partial(jnp.max, initial=0)`. With None,
the result is the value of each row, 0 where it does not count. Both are differentiable.

If no row counts, the value and its gradients are 0. A row that counts and holds NaN, or an index
outside its range, gives NaN.

This module does not import JAX, so that metrics of NumPy arrays need none.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

Reduction = Callable[..., Any]
"""A function `reduce_fn(value, where=where)` that reduces all axes."""


def mean(value: Float[Any, "*N"], where: Bool[Any, "*N"]) -> Float[Any, ""]:
    """Mean of the values [...] of the rows that count; `jnp.mean`, and NumPy's for its arrays."""
    return value.mean(where=where)


def checked_where(
    where: Bool[Any, "..."] | None, shape: tuple[int, ...]
) -> Bool[Any, "..."] | None:
    """`where` itself; ValueError unless it is None, or boolean and of the shape of the rows."""
    if where is None:
        return None
    if where.dtype != bool:
        raise ValueError(f"where must be boolean, got {where.dtype}")
    if where.shape != shape:
        raise ValueError(f"where must have the shape of the rows, {shape}, got {where.shape}")
    return where


def reduced(
    value: Float[Any, "*N"], where: Bool[Any, "*N"] | None, reduce_fn: Reduction | None
) -> Float[Any, "..."]:
    """Applies the contract to the values of all rows.

    Args:
      value: [...] value of each row, a JAX or NumPy array; anything where a row does not count.
        Gradients by it are 0 there, but what it was computed from must be finite there.
      where: [...] which rows count; None: all.
      reduce_fn: reduces all axes; None keeps a value for each row.

    Returns:
      The reduced value [], or the values [...], 0 where a row does not count.

    Raises:
      ValueError: if `reduce_fn` does not reduce all axes, or `where` is not boolean or of another
        shape.

    Example:
      >>> value, where = np.array([1.0, 5.0, np.nan]), np.array([True, True, False])
      >>> float(reduced(value, where, mean)), reduced(value, where, None).tolist()
      (3.0, [1.0, 5.0, 0.0])
    """
    xp = value.__array_namespace__()
    where = checked_where(where, value.shape)
    where = xp.ones(value.shape, bool) if where is None else where
    value = xp.where(where, value, 0)
    if reduce_fn is None:
        return value
    any_counts = where.any()
    # Where nothing counts, zeros are reduced instead: a mean over nothing is 0 / 0.
    result = reduce_fn(value, where=where | ~any_counts)
    if np.shape(result) != ():
        raise ValueError(f"reduce_fn must reduce all axes, but returned shape {np.shape(result)}")
    return xp.where(any_counts, result, 0)
