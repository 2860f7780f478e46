"""Adam as the authors' framework computes it, with a learning rate that is traced."""

import jax
import jax.numpy as jnp
import optax


def tf_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
    r"""Adam whose epsilon stands beside the uncorrected second moment, as in TensorFlow.

        m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
        update = - learning_rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)

    That matters for small gradients: in the first steps this epsilon counts up to 32 times as much
    as that of `optax.adam`.

    Args:
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: "epsilon hat" of the paper, end of section 2.

    Returns:
      A transformation whose `update` takes `learning_rate`, which may be traced, as an extra
      argument. Within `optax.chain` it is passed on. Its state is `optax.ScaleByAdamState`.

    Reference:
      Kingma and Ba, ICLR 2015, arXiv 1412.6980.
    """

    def update(updates, state, params=None, *, learning_rate, **_):
        correction = 1 - jnp.float32(b2) ** (state.count + 1)
        # optax's epsilon stands beside the corrected moment: v / correction.
        adam = optax.scale_by_adam(b1=b1, b2=b2, eps=eps / jnp.sqrt(correction))
        direction, state = adam.update(updates, state, params)
        return jax.tree.map(lambda leaf: -learning_rate * leaf, direction), state

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam(b1=b1, b2=b2).init, update)


TF_ADAM = tf_adam()
"""What training uses unless it is given another optimiser."""
