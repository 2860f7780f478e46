"""Whole epochs as one compiled program, over a mesh by jit or over devices by pmap."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.models.placement import shardings
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.gradients import Gradients, gradients, mesh_gradients
from mqsa_jax.training.leaf_stacks import LeafStacks
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.sampled_gradients import sampled_gradients
from mqsa_jax.training.state import TrainState
from mqsa_jax.training.step import train_step

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
    gradients: Gradients = gradients,
) -> tuple[TrainState, Losses]:
    """Steps through stacked batches [steps, S, ...]; a pure function, a scan of `train_step`.

    Returns:
      State after the last step, and the losses of every step [steps].
    """
    # An optimiser of the user's own may tell leaves apart.
    stacks = LeafStacks.of(state.params) if optimizer is TF_ADAM else None
    step = partial(
        train_step,
        recommender=recommender,
        relations=relations,
        optimizer=optimizer,
        gradients=gradients if stacks is None else _of_stacks(gradients, stacks),
    )
    if stacks is not None:
        state = _mapped_params(stacks.stacked, state)

    def body(state: TrainState, batch: Batch):
        state, losses = step(state, batch, key)
        # One array, which is one write a step.
        return state, jnp.stack(jax.tree.leaves(losses))

    state, loss_N3 = jax.lax.scan(body, state, batches)
    losses = Losses(*jnp.moveaxis(loss_N3, -1, 0))
    return state if stacks is None else _mapped_params(stacks.unstacked, state), losses


def _of_stacks(gradients: Gradients, stacks: LeafStacks) -> Gradients:
    """The gradients by stacked parameters, stacked too."""

    def of_stacks(params: Params, *args: Any, **options: Any) -> tuple[Params, Losses]:
        gradient, losses = gradients(stacks.unstacked(params), *args, **options)
        return stacks.stacked(gradient), losses

    return of_stacks


def _mapped_params(function: Callable[[Params], Params], state: TrainState) -> TrainState:
    """The state with a function applied to parameters, their average and the moments of Adam."""
    moments = {name: function(getattr(state.opt_state, name)) for name in ("mu", "nu")}
    return state.replace(
        params=function(state.params),
        opt_state=state.opt_state._replace(**moments),
        ema_params=None if state.ema_params is None else function(state.ema_params),
    )


def gradients_of(sampling: Sampling | None) -> Gradients:
    """Those of the losses over all items, or over sampled ones."""
    return gradients if sampling is None else partial(sampled_gradients, sampling=sampling)


@lru_cache(maxsize=8)
def compile_epoch(
    recommender: Recommender,
    layout: DeviceLayout,
    parallel: Literal["jit", "pmap"] = "jit",
    optimizer: optax.GradientTransformation = TF_ADAM,
    sampling: Sampling | None = None,
) -> EpochProgram:
    """`run_steps` compiled for the devices; compiled once for each shape of batches.

    Equal arguments give the same program, so that a second run in a process traces nothing.

    The program takes NumPy batches [steps, S, ...], S being `layout.num_shards`, and does not wait
    for the devices. The state passed in is kept, to be saved while the next epoch runs. Of the
    state, in and out, item tables lie as `placement.shardings` says; all else is replicated.
    """
    if parallel == "pmap":
        steps = partial(run_steps, recommender=recommender, optimizer=optimizer)
        return _pmapped_epoch(steps, layout, gradients_of(sampling))
    program = epoch_program(recommender, layout, optimizer, sampling)
    return lambda state, batches, key, relations: program(
        state, layout.shard(batches, axis=1), key, relations
    )


def epoch_program(
    recommender: Recommender,
    layout: DeviceLayout,
    optimizer: optax.GradientTransformation = TF_ADAM,
    sampling: Sampling | None = None,
) -> Callable:
    """`run_steps` under `jit`, of arrays that lie on the mesh or stand for such."""
    over_devices = gradients_of(sampling)
    if layout.mesh.size > 1:
        over_devices = mesh_gradients(
            layout, over_devices, by_rows=sampling is not None and sampling.lazy
        )

    def steps(state: TrainState, batches: Batch, key, relations: ItemRelations):
        state, losses = run_steps(
            state,
            batches,
            key,
            relations,
            recommender=recommender,
            optimizer=optimizer,
            gradients=over_devices,
        )
        return jax.lax.with_sharding_constraint(state, shardings(state, layout)), losses

    return jax.jit(steps)


def _pmapped_epoch(steps: Callable, layout: DeviceLayout, of_part: Gradients) -> EpochProgram:
    def body(state: TrainState, batches: Batch, key, relations: ItemRelations):
        # pmap takes the shard axis away; the step expects one, here of length 1.
        batches = jax.tree.map(lambda leaf: leaf[:, None] if leaf.ndim > 1 else leaf, batches)
        averaged = partial(of_part, axis_name=DATA_AXIS)
        return steps(state, batches, key, relations, gradients=averaged)

    mapped = jax.pmap(
        body, axis_name=DATA_AXIS, in_axes=(None, 1, None, None), devices=layout.devices
    )

    def program(state: TrainState, batches: Batch, key, relations: ItemRelations):
        num_positions = batches.num_positions[:, None].repeat(layout.num_shards, axis=1)
        state, losses = mapped(state, batches.replace(num_positions=num_positions), key, relations)
        return layout.replicate(jax.tree.map(lambda leaf: leaf[0], (state, losses)))

    return program
