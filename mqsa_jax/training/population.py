"""Many runs as one compiled program: trials that differ in seed and traced scalars alone.

The state of each trial is stacked along a first axis P, over which the pure functions are mapped by
`vmap`. Each device takes an equal number of whole trials, so that devices do not communicate and a
batch is not split (S = 1).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from mqsa_jax.config import Config
from mqsa_jax.data.batches import Batch, BatchSource, alike_batches
from mqsa_jax.data.packing import Capacity
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.inference.evaluation import map_user_scores
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.epoch import gradients_of, run_steps
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.state import TrainState, init_state, run_key


@pytree_dataclass
class Population:
    """The trials of a program, [P, ...] each, P a multiple of the devices."""

    state: TrainState
    best: Params
    """Parameters of each trial's best epoch so far, as evaluated."""

    def kept_where(self, better_P: np.ndarray) -> "Population":
        """With the present parameters as the best of the trials [P] that improved."""
        return self.replace(best=_chosen(better_P, self.state.eval_params, self.best))


@jax.jit
def _chosen(which_P, these, others):
    def choose(one, other):
        return jnp.where(which_P.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return jax.tree.map(choose, these, others)


@dataclasses.dataclass(frozen=True)
class Programs:
    """Compiled functions of [P, ...]; each is compiled once for each P."""

    initial: Callable[..., TrainState]
    """(hparams, seed) to the states before the first step."""
    epoch: Callable[..., Any]
    """(state, batches, key, relations) to states and losses [P, steps], as `run_steps`."""
    ranks: Callable[..., jax.Array]
    """(params, hparams, evaluation set, relations) to ranks [P, U], as `map_user_scores`."""


@lru_cache(maxsize=4)
def compile_population(
    recommender: Recommender,
    layout: DeviceLayout,
    with_ema: bool = False,
    optimizer: optax.GradientTransformation = TF_ADAM,
    sampling: Sampling | None = None,
) -> Programs:
    """The programs of a population; relations and evaluation sets are the same for all trials.

    `with_ema` and `optimizer` as in `init_state`, `sampling` as in `compile_epoch`.
    """

    def over_trials(function: Callable, stacked: int, shared: int = 0) -> Callable:
        split, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
        return jax.jit(
            jax.shard_map(
                jax.vmap(function, in_axes=(0,) * stacked + (None,) * shared),
                mesh=layout.mesh,
                in_specs=(split,) * stacked + (whole,) * shared,
                out_specs=split,
                check_vma=False,  # No value is replicated over devices.
            )
        )

    # Evaluate in float32 even if training is bfloat16.
    exact = recommender.in_float32()
    steps = partial(
        run_steps,
        recommender=recommender,
        optimizer=optimizer,
        gradients=gradients_of(sampling),
    )
    return Programs(
        initial=over_trials(
            partial(init_state, recommender, with_ema=with_ema, optimizer=optimizer), 2
        ),
        epoch=over_trials(steps, 3, 1),
        ranks=over_trials(partial(map_user_scores, recommender=exact), 2, 2),
    )


def initial_population(
    configs: Sequence[Config], programs: Programs, layout: DeviceLayout
) -> Population:
    """The trials of configurations [P] before the first step."""
    each = [HParams.of(config) for config in configs]
    hparams = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    seed_P = np.array([config.training.seed for config in configs], np.uint32)
    state = programs.initial(*layout.shard((hparams, seed_P), axis=0))
    return Population(state, state.eval_params)


def trial_keys(configs: Sequence[Config], layout: DeviceLayout) -> jax.Array:
    """[P] the runs' keys."""
    return layout.shard(jnp.stack([run_key(config.training.seed) for config in configs]), axis=0)


def padded(trials: Sequence[int], num_devices: int) -> list[int]:
    """[P] the trial of each slot: the last one is repeated, so that P divides over the devices."""
    return [*trials, *[trials[-1]] * (-len(trials) % num_devices)]


@dataclasses.dataclass(frozen=True, eq=False)
class TrialBatches:
    """Every epoch's batches of all trials; trials of one seed draw users in one order."""

    sources: Sequence[BatchSource]
    """One a seed."""
    source_P: np.ndarray
    """[P] source of each trial."""
    capacity: Capacity
    """Holds all of them."""

    @classmethod
    def of(cls, source: BatchSource, seeds: Sequence[int]) -> "TrialBatches":
        """For trials of these seeds [P], from the source of any seed."""
        distinct = list(dict.fromkeys(seeds))
        sources = [dataclasses.replace(source, seed=seed, num_shards=1) for seed in distinct]
        sizes = (dataclasses.astuple(each.capacity()) for each in sources)
        capacity = Capacity(*map(max, zip(*sizes, strict=True)))
        return cls(sources, np.array([distinct.index(seed) for seed in seeds]), capacity)

    def epoch(self, epoch: int, steps_per_program: int) -> Iterator[Batch]:
        """Stacked batches [P, steps, S = 1, ...], as NumPy arrays."""
        for batches in alike_batches(self.sources, epoch, steps_per_program, self.capacity):
            yield jax.tree.map(lambda *leaves: np.stack(leaves)[self.source_P], *batches)
