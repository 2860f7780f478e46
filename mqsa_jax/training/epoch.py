"""Whole epochs as one compiled program, over a mesh by jit or over devices by pmap."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal

import jax
import optax
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.step import Losses, train_step

EpochProgram = Callable[
    [TrainState, Batch, Key[Array, ""], ItemRelations], tuple[TrainState, Losses]
]


def run_steps(
    state: TrainState,
    batches: Batch,
    key: Key[Array, ""],
    relations: ItemRelations,
    *,
    recommender: Recommender,
    optimizer: optax.GradientTransformation = TF_ADAM,
    axis_name: str | None = None,
) -> tuple[TrainState, Losses]:
    """Steps through stacked batches [steps, S, ...]; a pure function, a scan of `train_step`.

    Returns:
      State after the last step, and the losses of every step [steps].
    """
    step = partial(
        train_step,
        recommender=recommender,
        relations=relations,
        optimizer=optimizer,
        axis_name=axis_name,
    )
    return jax.lax.scan(lambda state, batch: step(state, batch, key), state, batches)


@lru_cache(maxsize=8)
def compile_epoch(
    recommender: Recommender,
    layout: DeviceLayout,
    parallel: Literal["jit", "pmap"] = "jit",
    optimizer: optax.GradientTransformation = TF_ADAM,
) -> EpochProgram:
    """`run_steps` compiled for the devices; compiled once for each shape of batches.

    Equal arguments give the same program, so that a second run in a process traces nothing.

    The program takes NumPy batches [steps, S, ...], S being `layout.num_shards`, and does not wait
    for the devices. The state passed in is kept, to be saved while the next epoch runs. State in
    and out is replicated over the mesh.
    """
    steps = partial(run_steps, recommender=recommender, optimizer=optimizer)
    if parallel == "pmap":
        return _pmapped_epoch(steps, layout)
    program = jax.jit(steps, out_shardings=layout.replicated)
    return lambda state, batches, key, relations: program(
        state, layout.shard(batches, axis=1), key, relations
    )


def _pmapped_epoch(steps: Callable, layout: DeviceLayout) -> EpochProgram:
    def body(state: TrainState, batches: Batch, key, relations: ItemRelations):
        # pmap takes the shard axis away; the step expects one, here of length 1.
        batches = jax.tree.map(lambda leaf: leaf[:, None] if leaf.ndim > 1 else leaf, batches)
        return steps(state, batches, key, relations, axis_name=DATA_AXIS)

    mapped = jax.pmap(
        body, axis_name=DATA_AXIS, in_axes=(None, 1, None, None), devices=layout.devices
    )

    def program(state: TrainState, batches: Batch, key, relations: ItemRelations):
        num_positions = batches.num_positions[:, None].repeat(layout.num_shards, axis=1)
        state, losses = mapped(state, batches.replace(num_positions=num_positions), key, relations)
        return layout.replicate(jax.tree.map(lambda leaf: leaf[0], (state, losses)))

    return program
