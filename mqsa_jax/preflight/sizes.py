"""Static sizes of a run's programs: from its data, or estimated from a few figures.

Without JAX.
"""

import dataclasses
import math

from mqsa_jax.config import Config
from mqsa_jax.mesh_shape import mesh_shape

STEPS_PER_PROGRAM = 512
"""`training.loop.STEPS_PER_PROGRAM`, which a test compares."""
MARGIN = 1.1
"""`data.packing.CAPACITY_MARGIN`, likewise."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the shapes of a run's arrays are made of."""

    items: int
    """V."""
    users: int
    """U."""
    positions: float
    """Mean training positions of a user."""
    steps: int
    """Steps of a program."""
    rows: int
    """Packed rows of a shard."""
    distinct: int
    """Distinct input items of a shard."""
    transitions: int
    """Transitions from them."""

    @classmethod
    def estimated(
        cls,
        config: Config,
        num_chips: int,
        *,
        items: int,
        users: int,
        positions: float,
        successors: float,
    ) -> "Sizes":
        """Of users of mean length, whose items are all distinct as far as there are so many.

        Args:
          config: of the run.
          num_chips: devices of the mesh.
          items: V.
          users: U.
          positions: mean training positions of a user, at most `max_len`.
          successors: mean number of items that follow an item.

        Raises:
          SettingError: if the mesh is of another number of devices.
        """
        shards, _ = mesh_shape(config.run.mesh, num_chips)
        batch = min(config.training.batch_size, users)
        a_shard = MARGIN * math.ceil(batch / shards) * positions
        rows = math.ceil(a_shard / config.model.max_len)
        distinct = min(math.ceil(a_shard), items)
        return cls(
            items=items,
            users=users,
            positions=positions,
            steps=min(math.ceil(users / batch), STEPS_PER_PROGRAM),
            rows=rows,
            distinct=distinct,
            transitions=math.ceil(distinct * successors),
        )

    def rows_of_logits(self, max_len: int) -> int:
        """Rows of a shard whose logits are formed in a step: positions and distinct items."""
        return self.rows * max_len + self.distinct
