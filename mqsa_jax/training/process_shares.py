"""Batches of which each process packs its own shards: which those are, their sizes, one array.

With one process there is nothing to do: it packs all shards.
"""

import dataclasses

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from mqsa_jax.data.batches import Batch
from mqsa_jax.data.packing import Capacity
from mqsa_jax.devices import DATA_AXIS, DeviceLayout


def own_shards(layout: DeviceLayout) -> range | None:
    """The shards of a batch that devices of this process hold.

    None, all of them, with one process, or where they do not lie next to each other.
    """
    if not layout.mesh.is_multi_process:
        return None
    axis = layout.mesh.axis_names.index(DATA_AXIS)
    own = np.array([device.process_index == jax.process_index() for device in layout.devices])
    by_shard = np.moveaxis(own.reshape(layout.mesh.devices.shape), axis, 0)
    (shards,) = np.nonzero(by_shard.reshape(layout.num_shards, -1).any(axis=1))
    next_to_each_other = shards.size and shards[-1] - shards[0] + 1 == shards.size
    return range(int(shards[0]), int(shards[-1]) + 1) if next_to_each_other else None


def largest_of_processes(needed: Capacity) -> Capacity:
    """The largest sizes that any process needs; all of them must call it."""
    if jax.process_count() == 1:
        return needed
    sizes = multihost_utils.process_allgather(np.array(dataclasses.astuple(needed)))
    return Capacity(*sizes.max(axis=0).tolist())


def whole_batch(batch: Batch, layout: DeviceLayout) -> Batch:
    """A batch over the devices of all processes, from the shards [steps, S, ...] of this one."""
    own = own_shards(layout)
    if own is None:
        return batch

    def whole(leaf: np.ndarray) -> jax.Array:
        if leaf.ndim < 2:
            spec, shape = PartitionSpec(), leaf.shape
        else:
            spec = PartitionSpec(None, DATA_AXIS)
            shape = (leaf.shape[0], layout.num_shards, *leaf.shape[2:])
        sharding = NamedSharding(layout.mesh, spec)
        return jax.make_array_from_process_local_data(sharding, leaf, shape)

    return jax.tree.map(whole, batch)
