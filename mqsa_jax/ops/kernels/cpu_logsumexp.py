"""Log-sum-exps of linear logits with their gradients, by a kernel in C++."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mqsa_jax.ops.kernels.registration import LINEAR_LOGSUMEXP, registered
from mqsa_jax.ops.sparse_logits import SparseLogits

TILE_ITEMS = 96
"""`kTileItems` of the source."""
TILE_COLUMNS = 32
"""A multiple of every `kTileColumns`: two of the widest registers."""


def logsumexps_with_gradients(
    x_SMD: Float[Array, "S M D"],
    table_VD: Float[Array, "V D"],
    weight_SM: Float[Array, "S M"],
    pad_SM: Bool[Array, "S M"],
    sparse: SparseLogits | None,
    used: Int[Array, ""],
    *,
    chunk: int,
) -> (
    tuple[
        Float[Array, "S M"],
        Float[Array, "S M D"],
        Float[Array, "V D"],
        Float[Array, "S M K"] | None,
    ]
    | None
):
    """As `chunk_loop.logsumexps_with_gradients`; None if the kernels are not at hand."""
    if not registered():
        return None
    dim = x_SMD.shape[-1]
    spare = -dim % TILE_COLUMNS
    x_SMD = jnp.pad(x_SMD, ((0, 0), (0, 0), (0, spare)))
    table_VD = jnp.pad(table_VD, ((0, 0), (0, spare)))
    none = jnp.zeros((*pad_SM.shape, 0))
    some = SparseLogits(none.astype(jnp.int32), none) if sparse is None else sparse
    exps = (_ceil(table_VD.shape[0], TILE_ITEMS), _ceil(chunk, TILE_COLUMNS))
    shapes = [pad_SM.shape, x_SMD.shape, table_VD.shape, some.item.shape, exps]
    call = jax.ffi.ffi_call(
        LINEAR_LOGSUMEXP,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )
    lse_SM, dx_SMD, dtable_VD, dvalue_SMK, _ = call(
        x_SMD,
        table_VD,
        weight_SM,
        pad_SM,
        some.item.astype(jnp.int32),
        some.value.astype(jnp.float32),
        used.astype(jnp.int32),
        chunk=np.int64(chunk),
    )
    dvalue_SMK = None if sparse is None else dvalue_SMK
    return lse_SM, dx_SMD[..., :dim], dtable_VD[:, :dim], dvalue_SMK


def _ceil(size: int, multiple: int) -> int:
    """The least multiple that is at least `size`."""
    return -(-size // multiple) * multiple
