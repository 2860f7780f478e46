"""Dataclasses that are pytrees of arrays."""

import typing

from flax import struct


@typing.dataclass_transform(frozen_default=True, field_specifiers=(struct.field,))
def pytree_dataclass(cls: type) -> type:
    """`flax.struct.dataclass` whose field annotations are for readers, not for run-time checks.

    A field's annotation states the array that functions expect: `Int32[Array, "S R T"]`. JAX
    builds instances with other leaves too: NumPy arrays on the host, tracers, and shardings or axis
    numbers in a tree of the same structure. So jaxtyping's import hook, which the tests install,
    must not check what the constructor is given.
    """
    cls = struct.dataclass(cls)
    cls.__no_type_check__ = True
    return cls
