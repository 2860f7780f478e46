"""What a configuration and its data come to: everything that training and evaluation share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax
import scipy.sparse

from mqsa_jax.config import Config
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.coverage import check_trainable, warn_of_consumed_targets
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.sources import load_dataset
from mqsa_jax.data.stream_batches import StreamBatches
from mqsa_jax.data.streamed import StreamedHistories
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.devices import DeviceLayout, enable_compilation_cache
from mqsa_jax.inference.evaluation import Evaluator
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.stream_evaluation import AnyEvaluator, StreamEvaluator
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import place, shardings
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.registry import MODELS, ModelSpec, check_split
from mqsa_jax.models.relations import ItemRelations, item_relations, teacher_counts
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.process_shares import largest_of_processes, own_shards
from mqsa_jax.training.state import TrainState, init_state
from mqsa_jax.training.warm_start import ItemOrigins, Source, warm_params


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """A configuration on its data and devices."""

    config: Config
    histories: Dataset
    """In memory or streamed."""
    layout: DeviceLayout
    optimizer: optax.GradientTransformation = TF_ADAM
    """`lr` reaches `tf_adam` only; any other has a learning rate of its own."""

    @classmethod
    def load(
        cls,
        config: Config,
        histories: Dataset | None = None,
        optimizer: optax.GradientTransformation = TF_ADAM,
    ) -> "Experiment":
        """Finds the devices and turns the compilation cache on; reads or generates missing data."""
        histories = histories or load_dataset(config)
        settings = config.attributes
        if (histories.attributes is None) == settings.describes_items or (
            histories.traits is None
        ) == settings.describes_users:
            raise ValueError(
                "the histories lack attributes that the settings name, or have others; "
                "`with_attributes` of `mqsa_jax.data.described` adds them"
            )
        enable_compilation_cache()
        run = config.run
        if run.debug_nans:
            jax.config.update("jax_debug_nans", True)
        layout = DeviceLayout.of(run.devices, run.mesh, run.shard_items)
        if layout.item_axes:
            check_split(config)
        return cls(config, histories, layout, optimizer)

    @property
    def recommender(self) -> Recommender:
        """The model."""
        return Recommender.of_data(self.config, self.histories)

    @property
    def sampling(self) -> Sampling | None:
        """What the losses sample; None: they are over all items."""
        return Sampling.of(self.config)

    def initial_state(self) -> TrainState:
        """State before the first step, on all devices."""
        make = _initial_state_program(self.layout)
        # A seed of 2**31 or more is no int32, which jit would take a Python int for.
        seed = np.uint32(self.config.training.seed)
        return make(self.recommender, HParams.of(self.config), seed, self.with_ema, self.optimizer)

    def warm_state(self, source: Source) -> tuple[TrainState, ItemOrigins]:
        """State before the first step, with the parameters of another run; and where its item
        vectors are from. The optimiser's state and the average over steps start anew.

        Raises:
          UserError: if the run's parameters do not fit; see `warm_params`.
        """
        state = self.initial_state()
        host, origins = warm_params(source, state.params, self.config, self.histories)
        params, average = self.placed(host), self.placed(host) if self.with_ema else None
        opt_state = self.placed(self.optimizer.init(params))
        return state.replace(params=params, opt_state=opt_state, ema_params=average), origins

    def placed(self, tree: Any) -> Any:
        """A pytree of the host on the devices, item tables filled up and split."""
        return place(tree, self.layout, self.histories.num_items)

    @property
    def is_stream(self) -> bool:
        """Whether the data are read block by block."""
        return isinstance(self.histories, StreamedHistories)

    @property
    def with_ema(self) -> bool:
        """Whether a moving average of the parameters is what is evaluated."""
        return self.config.training.ema_decay > 0

    def check_data(self) -> None:
        """Warns of what limits every model's result; raises UserError if none can be trained."""
        if self.config.model.model != "popular":
            check_trainable(self.histories)
        policy, max_len = self.config.evaluation.exclude_seen, self.config.model.max_len
        sample = self.config.evaluation.eval_users
        warn_of_consumed_targets(self.histories, policy, max_len, sample)

    def protocol(self, split: Literal["valid", "test"]) -> Protocol:
        """How the run itself ranks a split."""
        settings = self.config.evaluation
        return Protocol(split, settings.exclude_seen, settings.eval_users)

    @property
    def spec(self) -> ModelSpec:
        """What the model is built of."""
        return MODELS[self.config.model.model]

    @functools.cached_property
    def transition_counts(self) -> TransitionCounts:
        """Transitions that the teacher learns from."""
        return teacher_counts(self.histories, self.config)

    def relations(self) -> ItemRelations:
        """Everything of item transitions that the model needs, on all devices."""
        return self.placed(item_relations(self.histories, self.config))

    def batch_source(self) -> BatchSource | StreamBatches:
        """Training batches."""
        data, settings = self.histories, self.config.training
        counts = self.transition_counts
        if self.is_stream and not self.config.objective.lambda_kd:
            # Without the teacher its rows are most of a batch, and for nothing.
            counts = TransitionCounts.from_scipy(scipy.sparse.csr_array(2 * (data.num_items,)))
        rest = (
            counts,
            min(settings.batch_size, data.num_users),
            self.config.model.max_len,
            settings.seed,
            self.layout.num_shards,
        )
        if self.is_stream:
            workers = self.config.run.stream_workers
            shares = {"agree": largest_of_processes, "shards": own_shards(self.layout)}
            return StreamBatches.of(data, settings.stream_window, workers, *rest, **shares)
        return BatchSource(data, *rest)

    def evaluator(self, protocol: Protocol, relations: ItemRelations | None = None) -> AnyEvaluator:
        """Evaluation of all users; `relations` are made if not at hand."""
        # Evaluate in float32 even if training is bfloat16.
        model = self.recommender.in_float32()
        kind = StreamEvaluator if self.is_stream else Evaluator
        return kind(self.histories, protocol, model, self.layout, relations or self.relations())


@functools.lru_cache(maxsize=8)
def _initial_state_program(layout: DeviceLayout) -> Callable[..., TrainState]:
    """`init_state` compiled for the devices; the same program for equal arguments."""

    def make(*arguments: Any) -> TrainState:
        state = init_state(*arguments, layout=layout)
        return jax.lax.with_sharding_constraint(state, shardings(state, layout))

    return jax.jit(make, static_argnums=(0, 3, 4))
