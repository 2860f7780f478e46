"""Static sizes of a run's programs, from the data that it would train on."""

import dataclasses

from mqsa_jax.config import Config
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.splits import training_inputs
from mqsa_jax.errors import UserError
from mqsa_jax.mesh_shape import mesh_shape
from mqsa_jax.models.relations import teacher_counts
from mqsa_jax.preflight.sizes import STEPS_PER_PROGRAM, Sizes


def sizes_of(config: Config, histories: Dataset, num_chips: int) -> Sizes:
    """The sizes that training itself would find, for the shards of a mesh of that many devices.

    Raises:
      UserError: if the data are a stream, whose users are not all at hand.
      SettingError: if the mesh is of another number of devices.
    """
    if not isinstance(histories, Histories):
        raise UserError(
            "sizes are found in data in memory: for a stream give mqsa-jax preflight its --items, "
            "--users and --positions, or use --stream never"
        )
    shards, _ = mesh_shape(config.run.mesh, num_chips)
    max_len = config.model.max_len
    source = BatchSource(
        histories,
        teacher_counts(histories, config),
        min(config.training.batch_size, histories.num_users),
        max_len,
        config.training.seed,
        shards,
    )
    # Blocks of steps are of like length: the longest.
    blocks = -(-source.num_steps // STEPS_PER_PROGRAM)
    return Sizes(
        items=histories.num_items,
        users=histories.num_users,
        positions=float(training_inputs(histories, max_len).lengths.mean()),
        steps=-(-source.num_steps // blocks),
        **dataclasses.asdict(source.capacity()),
    )
