"""What a configuration and its data come to: everything that training and evaluation share."""

import dataclasses
from typing import Any

import jax
import numpy as np

from mqsa_jax.config import Config
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.load import load_histories
from mqsa_jax.data.teacher_counts import teacher_counts, term_counts
from mqsa_jax.data.transitions import TransitionCounts
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.inference.evaluation import Evaluator, Protocol, summarise
from mqsa_jax.layers.item_graph import item_graph
from mqsa_jax.models.encoder import Encoder
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import ItemRelations
from mqsa_jax.models.registry import MODELS, ModelSpec
from mqsa_jax.models.transition_term import neighbours
from mqsa_jax.runs.provenance import provenance, versions
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.compilation_cache import enable_compilation_cache
from mqsa_jax.training.state import TrainState, init_state, make_encoder


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """A configuration on its data and devices."""

    config: Config
    histories: Histories
    layout: DeviceLayout

    @classmethod
    def load(cls, config: Config) -> "Experiment":
        """Reads or generates the data, finds the devices, and turns the compilation cache on."""
        histories = load_histories(config.dataset, config.run.data_dir)
        enable_compilation_cache()
        return cls(config, histories, DeviceLayout.of(config.run.devices))

    @property
    def encoder(self) -> Encoder:
        """Sizes of the model."""
        return make_encoder(self.config, self.histories.num_items)

    def initial_state(self) -> TrainState:
        """State before the first step, on all devices."""
        make = jax.jit(init_state, static_argnums=(0, 3), out_shardings=self.layout.replicated)
        # A seed of 2**31 or more is no int32, which jit would take a Python int for.
        seed = np.uint32(self.config.training.seed)
        return make(self.encoder, HParams.of(self.config), seed, self.with_ema)

    @property
    def with_ema(self) -> bool:
        """Whether a moving average of the parameters is what is evaluated."""
        return self.config.training.ema_decay > 0

    @property
    def spec(self) -> ModelSpec:
        """What the model is built of."""
        return MODELS[self.config.model.model]

    def transition_counts(self) -> TransitionCounts:
        """Transitions that the teacher learns from, on all devices."""
        return self.layout.replicate(teacher_counts(self.histories, self.config))

    def relations(self) -> ItemRelations:
        """Everything of item transitions that the model needs, on all devices."""
        counts, graph, near = self.transition_counts(), None, None
        if self.spec.graph != "unused":
            graph = item_graph(counts)
        term = self.config.term
        if term.term_items:
            near = neighbours(
                term_counts(self.histories, self.config),
                min(term.term_neighbours, self.histories.num_items),
                popularity=term.term_popularity,
                num_recent=term.term_items,
                time_span=min(term.term_span, self.config.model.max_len - 1),
                decay=term.term_span_decay,
            )
        return self.layout.replicate(ItemRelations(counts, graph, near))

    def batch_source(self, counts: TransitionCounts) -> BatchSource:
        """Training batches."""
        return BatchSource(
            self.histories,
            np.diff(np.asarray(counts.row_start)),
            min(self.config.training.batch_size, self.histories.num_users),
            self.config.model.max_len,
            self.config.training.seed,
            self.layout.num_shards,
        )

    def evaluator(self, protocol: Protocol, relations: ItemRelations | None = None) -> Evaluator:
        """Evaluation of all users; `relations` are made if not at hand."""
        # However coarse the training is, what is reported of it is not.
        encoder = self.encoder.clone(precision="float32")
        return Evaluator(
            self.histories, protocol, encoder, self.layout, relations or self.relations()
        )

    def evaluate(
        self, state: TrainState, epoch: int, protocol: Protocol, run_dir: RunDirectory
    ) -> dict[str, Any]:
        """Ranks all users and writes the result to the run's folder."""
        evaluator = self.evaluator(protocol)
        return self.record(
            evaluator.ranks(state.eval_params, state.hparams), epoch, protocol, run_dir
        )

    def record(
        self, ranks_U: np.ndarray, epoch: int, protocol: Protocol, run_dir: RunDirectory
    ) -> dict[str, Any]:
        """Writes what the ranks [U] of all users come to, to the run's folder; returns it."""
        result = {
            **summarise(ranks_U),
            "split": protocol.split,
            "exclude_seen": protocol.exclude_seen,
            "ranking": "full",
            "users": self.histories.num_users,
            "items": self.histories.num_items,
            "epoch": epoch,
            "data_fingerprint": self.histories.fingerprint(),
            "versions": versions(),
            "provenance": provenance(self.layout.devices),
        }
        run_dir.write_result(protocol.name, result, self.histories.user_ids, ranks_U)
        return result
