"""What a model is built of: its sizes and parts, nothing trained."""

import dataclasses
from collections.abc import Mapping

from jaxtyping import Array

from mqsa_jax.attribute_settings import AttributeSide
from mqsa_jax.config import Config
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.models.encoder import Encoder
from mqsa_jax.models.registry import MODELS, Backbone, Graph
from mqsa_jax.ops.products import Precision
from mqsa_jax.ops.sharded_table import ShardedTable
from mqsa_jax.ops.table_rows import TableRows

Params = Mapping[str, Array | ShardedTable | TableRows | Mapping]
"""Nested dict of float32 arrays: the encoder's, and those of other parts, where there are such:
`graph`, `attribute_embedding`, `trait_embedding` and `transition_term`."""


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Sizes and parts of a model; hashable, so that it can be a static argument of `jit`."""

    num_items: int
    """V."""
    dim: int = 64
    """D."""
    max_len: int = 50
    """T, items of a history that are read."""
    num_blocks: int = 1
    """Attention blocks of each branch, or layers of another backbone."""
    num_heads: int = 1
    """H, attention heads."""
    precision: Precision = "float32"
    """Of the factors of matrix products."""
    backbone: Backbone = "attention"
    """What turns item vectors into user vectors."""
    graph: Graph = "unused"
    """How the graph of item transitions enters the item vectors."""
    num_recent: int = 0
    """K, latest items from which the transition term scores; 0: there is no term."""
    term_trained: bool = False
    """Whether the term takes part in training, or in scores alone."""
    num_attributes: int = 0
    """A, attributes of items that add to their vectors."""
    attribute_side: AttributeSide = "both"
    """Which item vectors they add to: those that are read, those that are scored, or both."""
    id_dropout: float = 0.0
    """Probability, in training, that an item has the mean in place of its own vector."""
    num_traits: int = 0
    """Traits of users that add to their vectors."""
    num_cold: int = 0
    """Items at the end of the vocabulary that no history holds: training leaves them out."""

    @classmethod
    def of(cls, config: Config, num_items: int, **sizes: int) -> "Recommender":
        """The model of a configuration, for V = `num_items`.

        Args:
          config: of the run.
          num_items: V.
          sizes: `num_attributes`, `num_traits` and `num_cold`, where they are not 0.
        """
        model, spec = config.model, MODELS[config.model.model]
        return cls(
            num_items=num_items,
            dim=model.dim,
            max_len=model.max_len,
            num_blocks=model.num_blocks,
            num_heads=model.num_heads,
            precision=config.training.precision,
            backbone=spec.backbone,
            graph=spec.graph,
            num_recent=config.term.term_items,
            term_trained=config.term.term_dropout < 1,
            attribute_side=config.attributes.attribute_side,
            id_dropout=config.attributes.id_dropout,
            **sizes,
        )

    @classmethod
    def of_data(cls, config: Config, data: Dataset) -> "Recommender":
        """The model of a configuration, of the sizes of its data."""
        lists = {"num_attributes": data.attributes, "num_traits": data.traits}
        sizes = {name: 0 if each is None else each.num_attributes for name, each in lists.items()}
        return cls.of(config, data.num_items, num_cold=data.num_cold, **sizes)

    @property
    def encoder(self) -> Encoder:
        """The flax module that turns item vectors into user vectors."""
        sizes = (self.num_items, self.dim, self.max_len, self.num_blocks, self.num_heads)
        return Encoder(*sizes, self.precision, self.backbone)

    def in_float32(self) -> "Recommender":
        """The same model with matrix products in float32, as evaluation wants them."""
        return dataclasses.replace(self, precision="float32")


def part_of(params: Params, name: str, why: str) -> Mapping[str, Array] | Array:
    """The parameters of a part; ValueError if they are missing."""
    if name not in params:
        raise ValueError(f"a recommender with {why} needs parameters {name!r}; `init` makes them")
    return params[name]
