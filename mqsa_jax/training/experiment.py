"""What a configuration and its data come to: everything that training and evaluation share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.config import Config
from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.inference.evaluation import Evaluator, Protocol, summarise
from mqsa_jax.model.encoder import Encoder
from mqsa_jax.objectives.transitions import TransitionCounts, count_transitions
from mqsa_jax.training.batch import BatchSource
from mqsa_jax.training.devices import DeviceLayout
from mqsa_jax.training.provenance import provenance, versions
from mqsa_jax.training.run_dir import RunDirectory
from mqsa_jax.training.state import Hyperparameters, TrainState, init_state, make_encoder


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
        make = jax.jit(init_state, static_argnums=0, out_shardings=self.layout.replicated)
        # A seed of 2**31 or more is no int32, which jit would take a Python int for.
        seed = np.uint32(self.config.training.seed)
        return make(self.encoder, Hyperparameters.of(self.config), seed)

    def transition_counts(self) -> TransitionCounts:
        """Transitions of the training items, on all devices."""
        kept = splits.window(self.histories, "train", self.config.model.max_len)
        segment_N, source_N = kept.flat_index()
        counts = jax.jit(count_transitions, static_argnums=2, static_argnames="time_span")(
            jnp.asarray(self.histories.items[source_N]),
            jnp.asarray(segment_N.astype(np.int32)),
            self.histories.num_items,
            # No two items of a history lie further apart.
            time_span=min(self.config.objective.time_span, self.config.model.max_len - 1),
        )
        return self.layout.replicate(counts.trimmed())

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

    def evaluator(self, protocol: Protocol) -> Evaluator:
        """Evaluation of all users."""
        # However coarse the training is, what is reported of it is not.
        encoder = self.encoder.clone(precision="float32")
        return Evaluator(self.histories, protocol, encoder, self.layout)

    def evaluate(
        self, state: TrainState, epoch: int, protocol: Protocol, run_dir: RunDirectory
    ) -> dict[str, Any]:
        """Ranks all users and writes the result to the run's folder."""
        ranks_U = self.evaluator(protocol).ranks(state.params, state.hyper)
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
