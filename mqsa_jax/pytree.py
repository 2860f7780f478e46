"""The type of an array field of a pytree class."""

from typing import Any

Leaf = Any
"""An array whose shape and dtype the field's docstring states; inside a `jax.tree.map`, anything.

Unchecked on purpose: the same class holds NumPy arrays on the host, JAX arrays on devices, tracers,
and shardings or axis numbers in a tree of the same structure.
"""
