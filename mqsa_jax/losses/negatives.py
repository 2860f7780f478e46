"""Items sampled as negatives, and how often each was to be expected: the logQ correction."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from mqsa_jax.pytree import pytree_dataclass


@pytree_dataclass
class Negatives:
    """K items that all rows share, with weights that make sums over them estimate those over all V.

        E sum_k exp(log_weight_k) f(item_k) = sum_j f(j)    for any f

    The weight of item j is 1 / m_j, m_j being how often it is among the K in the mean: K / V for
    uniform draws. As logits take `log_weight` this is the logQ correction.
    """

    item: Int32[Array, "*S K"]
    """0..V-1; an item may be drawn twice."""
    log_weight: Float[Array, "*S K"]
    """-log m; minus infinity where there is no item."""


@pytree_dataclass
class ItemFrequency:
    """How often each item is a target of training, 4 bytes an item."""

    start: Int32[Array, " V+1"]
    """Targets of the items before each one, in all; the last is their number."""

    @classmethod
    def of(cls, count_V: Int[np.ndarray, " V"]) -> "ItemFrequency":
        """From the number of targets of each item [V], on the host.

        Raises:
          ValueError: if there are 2^31 targets and items or more.
        """
        total = int(count_V.sum()) + count_V.size
        if total >= 2**31:
            raise ValueError(f"{total} targets and items are more than 2^31 - 1")
        return cls(jnp.asarray(np.concatenate([[0], np.cumsum(count_V)]), jnp.int32))

    @property
    def num_items(self) -> int:
        """V."""
        return self.start.shape[-1] - 1

    def draw(self, key: Key[Array, ""], num: int) -> Int32[Array, " K"]:
        """[K] items drawn with replacement, each as likely as `probability` says."""
        # Adding the index to `start` adds 1 to every count.
        end_V = self.start[1:] + jnp.arange(1, self.num_items + 1, dtype=jnp.int32)
        ticket_K = jax.random.randint(key, (num,), 0, end_V[-1])
        return _interval(end_V, ticket_K)

    def probability(self, item_N: Int[Array, "*N"]) -> Float[Array, "*N"]:
        """`(count + 1) / (sum of counts + V)`: every item may be drawn, so that none is missed."""
        return (self._count(item_N) + 1) / (self.start[-1] + self.num_items).astype(jnp.float32)

    def target_share(self, item_N: Int[Array, "*N"]) -> Float[Array, "*N"]:
        """`count / sum of counts`: how likely each is as the target of a position."""
        return self._count(item_N) / jnp.maximum(self.start[-1], 1).astype(jnp.float32)

    def _count(self, item_N: Array) -> Array:
        return (self.start[item_N + 1] - self.start[item_N]).astype(jnp.float32)


def _interval(end_V: Array, ticket_K: Array) -> Array:
    """[K] the first item whose end lies above each ticket."""
    # Written out: a loop would wait for the host on GPUs.
    item_K = jnp.searchsorted(end_V, ticket_K, side="right", method="scan_unrolled")
    return item_K.astype(jnp.int32)


def uniform_negatives(key: Key[Array, ""], num_items: int, num: int) -> Negatives:
    """`num` of V items, drawn uniformly with replacement.

    Example:
      >>> negatives = uniform_negatives(jax.random.key(0), num_items=1000, num=4)
      >>> negatives.item.shape, round(float(jnp.exp(negatives.log_weight[0])), 1)
      ((4,), 250.0)
    """
    item_K = jax.random.randint(key, (num,), 0, num_items, jnp.int32)
    return Negatives(item_K, jnp.full(num, jnp.log(num_items / max(num, 1))))


def popularity_negatives(key: Key[Array, ""], frequency: ItemFrequency, num: int) -> Negatives:
    """`num` items, drawn with replacement as often as they are targets of training, plus one."""
    item_K = frequency.draw(key, num)
    return Negatives(item_K, -jnp.log(num * frequency.probability(item_K)))


def with_in_batch(
    drawn: Negatives,
    target_N: Int[Array, " N"],
    where_N: Bool[Array, " N"],
    frequency: ItemFrequency,
    *,
    by_popularity: bool = False,
) -> Negatives:
    r"""The targets of a batch as negatives of each other, beside those drawn (mixed sampling).

        m_j = n r_j + K q_j

    n positions count; r is the share of item j among the targets of training, q its probability of
    being drawn. So a draw of either kind has one weight (balance heuristic), and items that are no
    target of training are covered by the draws. Without draws, K = 0, the sum is over the items
    that are targets of training.

    Args:
      drawn: [K] as the functions above give them.
      target_N: [N] next items of a batch, 0..V-1.
      where_N: [N] which positions count.
      frequency: of the items as targets of training.
      by_popularity: whether `drawn` is of `popularity_negatives`; or of `uniform_negatives`.

    References:
      Yi et al., RecSys 2019: Sampling-bias-corrected neural modeling.
      Yang et al., WWW 2020: Mixed negative sampling for learning two-tower neural networks.
      Veach and Guibas, SIGGRAPH 1995: the balance heuristic.
    """
    num_drawn, num_items = drawn.item.size, frequency.num_items
    item = jnp.concatenate([drawn.item, jnp.where(where_N, target_N, 0).astype(jnp.int32)])
    share = frequency.probability(item) if by_popularity else 1 / num_items
    mean = where_N.sum() * frequency.target_share(item) + num_drawn * share
    present = jnp.concatenate([jnp.ones(num_drawn, bool), where_N])
    # A target that the counts do not know of has no weight.
    present &= mean > 0
    log_weight = jnp.where(present, -jnp.log(jnp.where(present, mean, 1)), -jnp.inf)
    return Negatives(item, log_weight)
