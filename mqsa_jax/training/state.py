"""All that training changes."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Int32, Integer, Key

from mqsa_jax.devices import DeviceLayout
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import filled_up
from mqsa_jax.models.recommender import Params, Recommender, init
from mqsa_jax.models.transition_term import with_term_factor
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.training.optimizer import TF_ADAM


@pytree_dataclass
class TrainState:
    """Parameters, optimiser state and step count; hyper-parameters go along unchanged."""

    params: Params
    """Trained parameters."""
    opt_state: optax.OptState
    """State of the optimiser."""
    step: Int32[Array, ""]
    """Steps done so far."""
    hparams: HParams
    """Scalars of the run."""
    ema_params: Params | None = None
    """Exponential moving average of `params` over steps; None if the run keeps none."""

    @property
    def eval_params(self) -> Params:
        """What validation and test see: the average, where there is one."""
        return self.params if self.ema_params is None else self.ema_params

    def with_term_factor(self, factor: float) -> "TrainState":
        """The state with the transition term's weight times a factor, for evaluation."""
        params = with_term_factor(self.params, factor)
        average = self.ema_params
        if average is not None:
            average = with_term_factor(average, factor)
        return self.replace(params=params, ema_params=average)


def moving_average(
    average: Params, params: Params, decay: Float[Array, ""], step: Int[Array, ""]
) -> Params:
    """The exponential moving average of parameters after a step (Polyak and Juditsky 1992).

    The decay grows towards its value as `(1 + step) / (10 + step)`, so that the initial parameters
    are soon forgotten.

    Args:
      average: before the step.
      params: after it.
      decay: below 1; may be traced.
      step: steps done before this one; may be traced.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - decay)


def run_key(seed: int | Integer[Array, ""]) -> Key[Array, ""]:
    """The key of a run, from which the key of every step is folded."""
    return jax.random.key(seed, impl="threefry2x32")


def init_state(
    recommender: Recommender,
    hparams: HParams,
    seed: int | Integer[Array, ""],
    with_ema: bool = False,
    optimizer: optax.GradientTransformation = TF_ADAM,
    layout: DeviceLayout | None = None,
) -> TrainState:
    """State before the first step.

    Args:
      recommender: the model.
      hparams: scalars of the run.
      seed: of the initial parameters.
      with_ema: whether to keep a moving average of the parameters.
      optimizer: whose state goes along.
      layout: of the devices that item tables are split over; None: they are whole.
    """
    params = init(
        recommender,
        run_key(seed),
        term_weight=hparams.term_weight,
        term_decay=hparams.term_decay,
    )
    if layout is not None:
        params = filled_up(params, layout, recommender.num_items)
    ema_params = params if with_ema else None
    return TrainState(params, optimizer.init(params), jnp.int32(0), hparams, ema_params)
