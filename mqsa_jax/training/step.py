"""The pure training step, the same for one device, a mesh and pmap."""

import jax
import optax
from jax.tree_util import KeyPath, tree_map_with_path
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.models.placement import ITEM_TABLE, is_item_table
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.ops.table_rows import TableRows
from mqsa_jax.training.gradients import Gradients, gradients
from mqsa_jax.training.objective import Losses
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.state import TrainState, moving_average


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    *,
    recommender: Recommender,
    relations: ItemRelations | None = None,
    optimizer: optax.GradientTransformation = TF_ADAM,
    gradients: Gradients = gradients,
) -> tuple[TrainState, Losses]:
    """One step of the optimiser on the combined objective.

    Args:
      state: state before the step; its `hparams` may be traced.
      batch: users of the step, [S, ...]; under pmap, this device's part of them.
      key: the run's key; the step's own is folded from it and `state.step`.
      recommender: the model.
      relations: what the model needs to know of item transitions; None: nothing.
      optimizer: what makes updates of gradients; `state.opt_state` is of it. If it takes the extra
        argument `learning_rate`, as `tf_adam` does, that is `state.hparams.lr`.
      gradients: what makes the gradient and the losses; on a mesh, that of `mesh_gradients`.

    Returns:
      State after the step, and the losses before it.
    """
    gradient, losses = gradients(
        state.params,
        batch,
        jax.random.fold_in(key, state.step),
        state.hparams,
        relations,
        recommender=recommender,
    )
    if isinstance(gradient[ITEM_TABLE], TableRows):
        return _lazily_updated(state, gradient, optimizer), losses
    return _updated(state, gradient, optimizer), losses


def _updated(
    state: TrainState, gradient: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    update, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, state.opt_state, state.params, learning_rate=state.hparams.lr
    )
    params, ema_params = optax.apply_updates(state.params, update), None
    if state.ema_params is not None:
        ema_params = moving_average(state.ema_params, params, state.hparams.ema_decay, state.step)
    return state.replace(
        params=params, opt_state=opt_state, step=state.step + 1, ema_params=ema_params
    )


def _lazily_updated(
    state: TrainState, gradient: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state after an update of some rows of the item table, and of their moments ("lazy Adam").

    That is not Adam: moments of an item do not decay in steps that do not read it, nor do they move
    it there.
    """
    rows = gradient[ITEM_TABLE]
    whole = {"params": state.params, "opt_state": state.opt_state}

    def taken(path: KeyPath, leaf: Array) -> Array:
        if not is_item_table(path):
            return leaf
        return leaf.at[rows.index].get(mode="fill", fill_value=0)

    def put(path: KeyPath, leaf: Array, new: Array) -> Array:
        if not is_item_table(path):
            return new
        return leaf.at[rows.index].set(new, mode="drop", indices_are_sorted=True)

    few = state.replace(**tree_map_with_path(taken, whole))
    few = _updated(few, {**gradient, ITEM_TABLE: rows.rows}, optimizer)
    new = {"params": few.params, "opt_state": few.opt_state}
    return few.replace(**tree_map_with_path(put, whole, new))
