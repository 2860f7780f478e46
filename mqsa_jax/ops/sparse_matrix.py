"""A constant sparse matrix times a table, and the gradient, by gathers alone.

A row of the product is a sum of some rows of the table. It is formed in rounds: each adds up at
most `WIDTH` rows at a time, until one is left of each sum. So nothing of the size [entries, D] is
kept, nothing is scattered, sums have one order on every device, and a long list costs no more than
short ones of as many entries.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Float32, Int32

from mqsa_jax.ops.products import scale_rows
from mqsa_jax.pytree import pytree_dataclass

WIDTH = 8
"""Rows that are added up at a time."""


@pytree_dataclass
class Round:
    """What is added up: `out_n = sum_w weight_nw x_index_nw`."""

    index: Int32[Array, "N W"]
    """0 behind the last."""
    weight: Float32[Array, "N W"]
    """0 behind the last."""


@pytree_dataclass
class SparseMatrix:
    """A matrix [R, C] as rounds of sums. An argument to functions under jit, not closed over."""

    rows: tuple[Round, ...]
    """Of a table [C, D]: the sums of each row of the matrix, [R, D]."""
    columns: tuple[Round, ...]
    """Of a table [R, D]: the sums of each column, [C, D]; they make the gradient."""

    @classmethod
    def of(cls, matrix: scipy.sparse.sparray) -> "SparseMatrix":
        """The rounds of a SciPy array; not under jit."""
        return cls(_rounds(matrix.tocsr()), _rounds(matrix.T.tocsr()))


def _rounds(matrix: scipy.sparse.csr_array) -> tuple[Round, ...]:
    """Rounds that make the sums of each row."""
    index_M, weight_M, length_R = matrix.indices, matrix.data, np.diff(matrix.indptr)
    rounds: list[Round] = []
    while not rounds or length_R.max(initial=0) > 1:
        parts_R = np.maximum(-(-length_R // WIDTH), 1)
        begin_R = np.cumsum(parts_R) - parts_R
        row_M = np.repeat(np.arange(len(length_R)), length_R)
        rank_M = np.arange(len(row_M)) - np.repeat(np.cumsum(length_R) - length_R, length_R)
        at = begin_R[row_M] + rank_M // WIDTH, rank_M % WIDTH
        # Narrower, if all lists are short.
        shape = (int(parts_R.sum()), min(WIDTH, max(int(length_R.max(initial=0)), 1)))
        index_NW, weight_NW = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        index_NW[at], weight_NW[at] = index_M, weight_M
        rounds.append(Round(jnp.asarray(index_NW), jnp.asarray(weight_NW)))
        index_M, weight_M = np.arange(shape[0]), np.ones(shape[0], np.float32)
        length_R = parts_R
    return tuple(rounds)


def _sums(rounds: tuple[Round, ...], x_ND: Array) -> Array:
    for each in rounds:
        # One term at a time, which XLA forms where it adds it up.
        terms = (
            scale_rows(x_ND[each.index[:, w]], each.weight[:, w])
            for w in range(each.index.shape[1])
        )
        x_ND = sum(terms)
    return x_ND


@jax.custom_vjp
def sparse_product(matrix: SparseMatrix, table_CD: Float[Array, "C D"]) -> Float[Array, "R D"]:
    """[R, D] the matrix times a table; differentiable by reverse mode, in the table alone.

    Example:
      >>> matrix = SparseMatrix.of(scipy.sparse.csr_array([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]))
      >>> sparse_product(matrix, jnp.array([[1.0], [10.0]])).ravel().tolist()
      [1.0, 0.0, 32.0]
    """
    return _sums(matrix.rows, table_CD)


def _forward(matrix: SparseMatrix, table_CD: Array) -> tuple[Array, SparseMatrix]:
    return sparse_product(matrix, table_CD), matrix


def _backward(matrix: SparseMatrix, cotangent_RD: Array) -> tuple[None, Array]:
    return None, _sums(matrix.columns, cotangent_RD)


sparse_product.defvjp(_forward, _backward)
