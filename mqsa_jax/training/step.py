"""The pure training step, the same for one device, a mesh and pmap."""

import jax
import optax
from jaxtyping import Array, Key

from mqsa_jax.data.batches import Batch
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
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
    update, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, state.opt_state, state.params, learning_rate=state.hparams.lr
    )
    params, ema_params = optax.apply_updates(state.params, update), None
    if state.ema_params is not None:
        ema_params = moving_average(state.ema_params, params, state.hparams.ema_decay, state.step)
    state = state.replace(
        params=params, opt_state=opt_state, step=state.step + 1, ema_params=ema_params
    )
    return state, losses
