"""The programs of a run with arrays that have shapes and places, but no data."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mqsa_jax.config import Config
from mqsa_jax.data.batches import Batch
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.devices import DATA_AXIS, DeviceLayout
from mqsa_jax.inference.evaluation import ranking_program, shard_ranks
from mqsa_jax.inference.evaluation_set import Chunk, EvaluationSet
from mqsa_jax.inference.seen_pairs import MAX_PAIRS, PairList, PairRange, SeenPairs, fewest_bits
from mqsa_jax.losses.negatives import ItemFrequency
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.placement import shardings
from mqsa_jax.models.recommender import Recommender
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import Neighbours
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.sampling import Sampling
from mqsa_jax.training.epoch import epoch_program
from mqsa_jax.training.state import TrainState, init_state, run_key


def abstract_epoch(config: Config, layout: DeviceLayout, sizes: Sizes) -> jax.stages.Lowered:
    """The program of an epoch, lowered for the devices of a mesh that need not be there."""
    recommender = Recommender.of(config, sizes.items)
    state = _state(config, layout, recommender)
    key = _placed(jax.eval_shape(lambda: run_key(0)), layout.replicated)
    program = epoch_program(recommender, layout, sampling=Sampling.of(config))
    return program.lower(
        state, _batches(config, layout, sizes), key, _relations(config, layout, sizes)
    )


def abstract_evaluation(config: Config, layout: DeviceLayout, sizes: Sizes) -> jax.stages.Lowered:
    """The program that ranks the validation targets of all users, lowered likewise."""
    recommender = Recommender.of(config, sizes.items).in_float32()
    state = _state(config, layout, recommender)
    data = _evaluation_set(config, layout, sizes)
    program = ranking_program(recommender, layout)
    relations = _relations(config, layout, sizes)
    params = state.params if state.ema_params is None else state.ema_params
    return program.lower(params, state.hparams, data, relations, score_fn=shard_ranks)


def table_bytes(config: Config, layout: DeviceLayout, sizes: Sizes) -> dict[str, int]:
    """Bytes on one device of the parameters, the moments of Adam and the moving average."""
    state = _state(config, layout, Recommender.of(config, sizes.items))
    parts = {"parameters": state.params, "moments": state.opt_state, "average": state.ema_params}
    return {name: sum(map(_local_bytes, jax.tree.leaves(tree))) for name, tree in parts.items()}


def _local_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _placed(tree: Any, sharding: Any) -> Any:
    """The abstract arrays of a tree, with a sharding for all or a tree of them."""
    if isinstance(sharding, NamedSharding):
        sharding = jax.tree.map(lambda _: sharding, tree)

    def place(leaf: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return jax.tree.map(place, tree, sharding)


def _state(config: Config, layout: DeviceLayout, recommender: Recommender) -> TrainState:
    with_ema = config.training.ema_decay > 0

    def initial() -> TrainState:
        return init_state(recommender, HParams.of(config), 0, with_ema, layout=layout)

    state = jax.eval_shape(initial)
    return _placed(state, shardings(state, layout))


def _batches(config: Config, layout: DeviceLayout, sizes: Sizes) -> Batch:
    shards, length = layout.num_shards, config.model.max_len
    split = NamedSharding(layout.mesh, PartitionSpec(None, DATA_AXIS))

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        shape = (sizes.steps, shards, *shape)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=split)

    rows = (sizes.rows, length)
    return Batch(
        inputs=Sequences(*(array(jnp.int32, *rows) for _ in range(3))),
        target=array(jnp.int32, *rows),
        distinct_item=array(jnp.int32, sizes.distinct),
        distinct_count=array(jnp.float32, sizes.distinct),
        num_positions=jax.ShapeDtypeStruct((sizes.steps,), jnp.float32, sharding=layout.replicated),
        successor_row=array(jnp.int32, sizes.transitions),
        successor=array(jnp.int32, sizes.transitions),
        successor_count=array(jnp.float32, sizes.transitions),
    )


def _relations(config: Config, layout: DeviceLayout, sizes: Sizes) -> ItemRelations:
    """What lies on the devices: what the transition term and sampled losses read of the items."""
    term, sampling, frequency = config.term, Sampling.of(config), None
    if sampling is not None and sampling.needs_frequency:
        start = jax.ShapeDtypeStruct((sizes.items + 1,), jnp.int32, sharding=layout.replicated)
        frequency = ItemFrequency(start)
    if not term.term_items:
        return ItemRelations(frequency=frequency)
    rows, width = layout.item_rows(sizes.items), min(term.term_neighbours, sizes.items)
    span = min(term.term_span, config.model.max_len - 1)
    arrays = Neighbours(
        item=np.broadcast_to(np.int32(0), (rows, width)),
        weight=np.broadcast_to(np.float32(0), (rows, width)),
        scale_from=np.broadcast_to(np.float32(0), rows),
        scale_to=np.broadcast_to(np.float32(0), rows),
        step_weight=np.broadcast_to(np.float32(0), (term.term_items, span)),
    )
    relations = ItemRelations(neighbours=arrays, frequency=frequency)
    return _placed(relations, shardings(relations, layout))


def _evaluation_set(config: Config, layout: DeviceLayout, sizes: Sizes) -> EvaluationSet:
    """As `build_evaluation_set` would pack users of mean length."""
    shards, length = layout.num_shards, config.model.max_len
    users = -(-sizes.users // shards)
    size = chunk_rows(users, sizes.items, layout.platform)
    chunks = -(-users // size)
    rows = max(math.ceil(size * sizes.positions / length), 1)
    split = NamedSharding(layout.mesh, PartitionSpec(None, DATA_AXIS))

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=split)

    def bounds() -> PairRange:
        end = jax.ShapeDtypeStruct((chunks,), jnp.int32, sharding=layout.replicated)
        return PairRange(end, end)

    def pairs(slots: int) -> PairList:
        total = chunks * size * math.ceil(sizes.positions)
        at_a_time = min(MAX_PAIRS, total)
        kind = fewest_bits(slots)
        shape = (total + at_a_time, shards)
        return PairList(array(kind, *shape), array(jnp.int32, *shape), at_a_time)

    item = (chunks, shards, rows, length)
    users_CSB = (chunks, shards, size)
    return EvaluationSet(
        chunks=Chunk(
            inputs=Sequences(
                array(jnp.int32, *item),
                array(fewest_bits(length), *item),
                array(fewest_bits(size), *item),
            ),
            last=array(jnp.int32, *users_CSB),
            target=array(jnp.int32, *users_CSB),
            user=array(jnp.int32, *users_CSB),
            own_pairs=bounds(),
            shared_pairs=bounds(),
        ),
        seen=SeenPairs(pairs(size), pairs(size * shards)),
        num_users=sizes.users,
    )
