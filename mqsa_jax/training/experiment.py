"""What a configuration and its data come to: everything that training and evaluation share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from mqsa_jax.config import Config
from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.hyperparameters import Hyperparameters
from mqsa_jax.inference.evaluation import Evaluator, Protocol, summarise
from mqsa_jax.model.encoder import Encoder
from mqsa_jax.model.item_graph import item_graph
from mqsa_jax.model.relations import ItemRelations
from mqsa_jax.model.transition_term import neighbours, normalised
from mqsa_jax.objectives.multi_step import multi_step
from mqsa_jax.objectives.transitions import TransitionCounts, count_transitions
from mqsa_jax.training.batch import BatchSource
from mqsa_jax.training.provenance import provenance, versions
from mqsa_jax.training.run_dir import RunDirectory
from mqsa_jax.training.state import TrainState, init_state, make_encoder
from mqsa_jax.zoo.spec import ModelSpec, load_model


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """A configuration on its data and devices."""

    config: Config
    histories: Histories
    layout: DeviceLayout

    @property
    def encoder(self) -> Encoder:
        """Sizes of the model."""
        return make_encoder(self.config, self.histories.num_items)

    def initial_state(self) -> TrainState:
        """State before the first step, on all devices."""
        make = jax.jit(init_state, static_argnums=(0, 3), out_shardings=self.layout.replicated)
        # A seed of 2**31 or more is no int32, which jit would take a Python int for.
        seed = np.uint32(self.config.training.seed)
        return make(self.encoder, Hyperparameters.of(self.config), seed, self.averaged)

    @property
    def averaged(self) -> bool:
        """Whether a moving average of the parameters is what is evaluated."""
        return self.config.training.ema_decay > 0

    @property
    def spec(self) -> ModelSpec:
        """What the model is built of."""
        return load_model(self.config.model.model)

    def transition_counts(self) -> TransitionCounts:
        """Transitions of the training items, on all devices."""
        objective = self.config.objective
        counts = self._counts(
            time_span=objective.time_span,
            decay=objective.span_decay,
            symmetric=objective.symmetric,
            popularity=objective.popularity,
        )
        return self.layout.replicate(multi_step(counts, objective.multi_step, objective.span_decay))

    def term_matrix(self) -> scipy.sparse.csr_array:
        """[V, V] M of the transition term, with all of its entries."""
        return normalised(self._term_counts(), self.config.term.term_popularity)[0]

    def relations(self) -> ItemRelations:
        """Everything of item transitions that the model needs, on all devices."""
        counts, graph, near = self.transition_counts(), None, None
        if self.spec.graph != "unused":
            graph = item_graph(counts)
        term = self.config.term
        if term.term_items:
            near = neighbours(
                self._term_counts(),
                min(term.term_neighbours, self.histories.num_items),
                popularity=term.term_popularity,
                num_recent=term.term_items,
                time_span=min(term.term_span, self.config.model.max_len - 1),
                decay=term.term_span_decay,
            )
        return self.layout.replicate(ItemRelations(counts, graph, near))

    def _term_counts(self) -> TransitionCounts:
        term = self.config.term
        return self._counts(
            time_span=term.term_span, decay=term.term_span_decay, symmetric=term.term_symmetric
        )

    def _counts(self, time_span: int, **options: float) -> TransitionCounts:
        max_len = self.config.model.max_len
        kept = splits.window(self.histories, "train", max_len)
        segment_N, source_N = kept.flat_index()
        # No two items of a history lie further apart.
        options["time_span"] = min(time_span, max_len - 1)
        # All are static: options that are off then cost nothing.
        count = jax.jit(count_transitions, static_argnums=2, static_argnames=tuple(options))
        return count(
            jnp.asarray(self.histories.items[source_N]),
            jnp.asarray(segment_N.astype(np.int32)),
            self.histories.num_items,
            **options,
        ).trimmed()

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
        return self.record(evaluator.ranks(state.evaluated, state.hyper), epoch, protocol, run_dir)

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
