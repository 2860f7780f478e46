"""What the data tell of items: constants that a model reads beside its inputs.

Transitions come from the training items alone, never from validation or test targets.
"""

import scipy.sparse

from mqsa_jax.config import Config
from mqsa_jax.data.attributes import Attributes
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.data.multi_step import multi_step
from mqsa_jax.data.splits import target_counts
from mqsa_jax.data.transitions import TransitionCounts, training_transitions
from mqsa_jax.layers.item_graph import ItemGraph, item_graph
from mqsa_jax.losses.negatives import ItemFrequency
from mqsa_jax.models.registry import MODELS, Graph
from mqsa_jax.models.transition_term import Neighbours, neighbours
from mqsa_jax.ops.sparse_matrix import SparseMatrix
from mqsa_jax.pytree import pytree_dataclass
from mqsa_jax.sampling import Sampling


@pytree_dataclass
class ItemRelations:
    """What a model uses, in the form that it does; None where it has no use for one."""

    graph: ItemGraph | None = None
    """Graph of the teacher's transitions, for the models whose `graph` is not `unused`."""
    neighbours: Neighbours | None = None
    """Strongest transitions from each item, for the transition term of the scores."""
    frequency: ItemFrequency | None = None
    """How often each item is a target, for sampled losses that correct for it."""
    attributes: SparseMatrix | None = None
    """[V, A] what each attribute's vector counts in that of an item."""


def item_relations(data: Dataset, config: Config) -> ItemRelations:
    """The relations that the model of a configuration needs; on the host, not under jit."""
    graph, frequency = None, None
    if MODELS[config.model.model].graph != "unused":
        graph = item_graph(teacher_counts(data, config))
    sampling = Sampling.of(config)
    if sampling is not None and sampling.needs_frequency:
        frequency = ItemFrequency.of(target_counts(data, config.model.max_len))
    attributes = None if data.attributes is None else attribute_matrix(data.attributes)
    return ItemRelations(graph, term_neighbours(data, config), frequency, attributes)


def attribute_matrix(lists: Attributes) -> SparseMatrix:
    """[V, A] the weights of attributes, of lists [V]; not under jit."""
    shape = (lists.num_rows, lists.num_attributes)
    parts = (lists.weight, lists.attribute, lists.row_start)
    return SparseMatrix.of(scipy.sparse.csr_array(parts, shape=shape))


def term_neighbours(data: Dataset, config: Config) -> Neighbours | None:
    """The neighbours that a configuration's transition term scores; None if it has no term."""
    term = config.term
    if not term.term_items:
        return None
    return neighbours(
        term_counts(data, config),
        min(term.term_neighbours, data.num_items),
        popularity=term.term_popularity,
        num_recent=term.term_items,
        time_span=min(term.term_span, config.model.max_len - 1),
        decay=term.term_span_decay,
    )


def teacher_counts(data: Dataset, config: Config) -> TransitionCounts:
    """Transitions that the teacher learns from; not under jit."""
    objective = config.objective
    counts = training_transitions(
        data,
        config.model.max_len,
        time_span=objective.time_span,
        decay=objective.span_decay,
        symmetric=objective.symmetric,
        popularity=objective.popularity,
    )
    return multi_step(counts, objective.multi_step, objective.span_decay)


def term_counts(data: Dataset, config: Config) -> TransitionCounts:
    """Transitions that the transition term of the scores uses; not under jit."""
    term = config.term
    return training_transitions(
        data,
        config.model.max_len,
        time_span=term.term_span,
        decay=term.term_span_decay,
        symmetric=term.term_symmetric,
    )


def graph_of(relations: ItemRelations | None, kind: Graph) -> ItemGraph:
    """The graph that a recommender with `graph=kind` needs; ValueError if it is missing."""
    if relations is None or relations.graph is None:
        raise ValueError(
            f"a recommender with graph={kind!r} needs `relations` with `graph`, the "
            "graph of item transitions; `item_relations` makes them"
        )
    return relations.graph


def attributes_of(relations: ItemRelations | None, why: str) -> SparseMatrix:
    """The attributes of the items; ValueError, saying why they are needed, if they are missing."""
    if relations is None or relations.attributes is None:
        raise ValueError(
            f"a recommender with {why} needs `relations` with `attributes`; `item_relations` makes "
            "them of data that have some"
        )
    return relations.attributes


def frequency_of(relations: ItemRelations | None) -> ItemFrequency:
    """How often items are targets; ValueError if it is missing."""
    if relations is None or relations.frequency is None:
        raise ValueError(
            "negatives by popularity or of the batch need `relations` with `frequency`; "
            "`item_relations` makes them"
        )
    return relations.frequency


def neighbours_of(relations: ItemRelations | None, num_recent: int) -> Neighbours:
    """The neighbours that a recommender with a term needs; ValueError if they are missing."""
    if relations is None or relations.neighbours is None:
        raise ValueError(
            f"a recommender with num_recent={num_recent} needs `relations` with "
            "`neighbours`, for its transition term; `item_relations` makes them"
        )
    return relations.neighbours
