"""All that training changes."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Integer, Key

from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, init
from mqsa_jax.pytree import Leaf


@struct.dataclass
class TrainState:
    """Parameters, optimiser state and step count; hyper-parameters go along unchanged."""

    params: Leaf
    """`Params`: nested dict of float32 arrays."""
    opt_state: Leaf
    """optax's state of `adam`."""
    step: Leaf
    """int32 [] steps done so far."""
    hparams: Leaf
    """`HParams`."""
    ema_params: Leaf = None
    """`Params`, their exponential moving average over steps; None where there is none."""

    @property
    def eval_params(self) -> Leaf:
        """The `Params` that validation and test see: the average, where there is one."""
        return self.params if self.ema_params is None else self.ema_params


def adam(step: Int[Array, ""]) -> optax.GradientTransformation:
    """Adam without its learning rate, which is traced.

    Epsilon stands beside the uncorrected second moment, as in TensorFlow's Adam, which the authors
    used ("epsilon hat" in Kingma and Ba 2015, section 2). That matters for small gradients: in the
    first steps its epsilon is up to 32 times optax's own.

    Args:
      step: steps done before this one; may be traced.
    """
    b2 = 0.999
    correction = 1 - jnp.float32(b2) ** (step + 1)
    return optax.scale_by_adam(b1=0.9, b2=b2, eps=1e-8 / jnp.sqrt(correction))


def moving_average(
    average: Params, params: Params, decay: Float[Array, ""], step: Int[Array, ""]
) -> Params:
    """The exponential moving average of parameters after a step (Polyak and Juditsky 1992).

    The decay grows towards its value as `(1 + step) / (10 + step)`, so that the first steps, and
    what they began with, are soon forgotten.

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
) -> TrainState:
    """State before the first step, a function of the seed; `with_ema` keeps an average too."""
    params = init(
        recommender,
        run_key(seed),
        term_weight=hparams.term_weight,
        term_decay=hparams.term_decay,
    )
    opt_state = adam(jnp.int32(0)).init(params)
    return TrainState(params, opt_state, jnp.int32(0), hparams, params if with_ema else None)
