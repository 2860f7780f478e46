"""Which devices work, how arrays lie on them, and where programs compiled for them are kept.

The mesh has two axes. Users are split over `data`. Along `model`, devices work on the same users;
item tables may be split over it, or over both.
"""

import dataclasses
import math

import jax
import numpy as np
import pooch
from jax.experimental import mesh_utils
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mqsa_jax.config import RunConfig, ShardItems
from mqsa_jax.errors import SettingError
from mqsa_jax.mesh_shape import AXES, mesh_shape
from mqsa_jax.ops.sharded_table import RowSplit

DATA_AXIS, MODEL_AXIS = AXES


@dataclasses.dataclass(frozen=True)
class DeviceLayout:
    """A mesh of the devices of all processes with the axes `data` and `model`."""

    mesh: Mesh
    shard_items: ShardItems = RunConfig.shard_items
    """Over which axes item tables are split."""

    @classmethod
    def of(
        cls,
        num_devices: int | None = None,
        mesh: str = RunConfig.mesh,
        shard_items: ShardItems = RunConfig.shard_items,
    ) -> "DeviceLayout":
        """Over the first `num_devices` local devices of each process; None: all of them.

        Raises:
          SettingError: if there are too few devices, or the mesh is of another number of them.
        """
        devices = jax.local_devices()
        if num_devices is not None and num_devices > len(devices):
            raise SettingError(
                f"{{devices}} {num_devices} is more than the {len(devices)} local "
                f"{devices[0].platform} device(s); leave it out to use them all"
            )
        # Those of a process side by side: it gets a run of the shards of a batch.
        chosen = [
            device
            for process in range(jax.process_count())
            for device in jax.local_devices(process_index=process)[:num_devices]
        ]
        return cls.over(chosen, mesh, shard_items)

    @classmethod
    def over(
        cls,
        devices: list[jax.Device],
        mesh: str = RunConfig.mesh,
        shard_items: ShardItems = RunConfig.shard_items,
    ) -> "DeviceLayout":
        """Over these devices, neighbours along the axes close to each other.

        Raises:
          SettingError: if the mesh is of another number of devices, or their links have no such
            shape.
        """
        shape = mesh_shape(mesh, len(devices))
        try:
            grid = mesh_utils.create_device_mesh(shape, devices)
        except NotImplementedError:
            sides = np.ptp([device.coords for device in devices], axis=0) + 1
            raise SettingError(
                f"{{mesh}} {mesh} cannot lie on a slice of {' x '.join(map(str, sides))} chips: "
                "each size must be a product of some of its sides"
            ) from None
        return cls(Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2), shard_items)

    @property
    def devices(self) -> list[jax.Device]:
        """The devices of the mesh."""
        return list(self.mesh.devices.flat)

    @property
    def local_devices(self) -> list[jax.Device]:
        """Those of this process."""
        return [device for device in self.devices if device.process_index == jax.process_index()]

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`."""
        return self.devices[0].platform

    @property
    def num_shards(self) -> int:
        """How many parts a batch is split into: one for each place along `data`."""
        return self.mesh.shape[DATA_AXIS]

    @property
    def item_axes(self) -> tuple[str, ...]:
        """Axes that item tables are split over; none, if that would make one part."""
        axes = (MODEL_AXIS,) if self.shard_items == "model" else (DATA_AXIS, MODEL_AXIS)
        return axes if math.prod(self.mesh.shape[axis] for axis in axes) > 1 else ()

    def item_rows(self, num_items: int) -> int:
        """Rows of an item table of V = `num_items`, those that fill it up included."""
        parts = math.prod(self.mesh.shape[axis] for axis in self.item_axes)
        return -(-num_items // parts) * parts

    def row_split(self, num_items: int) -> RowSplit:
        """How the rows of item tables lie on the mesh."""
        return RowSplit(num_items, self.item_axes, DATA_AXIS)

    @property
    def replicated(self) -> NamedSharding:
        """The same array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def replicate(self, tree):
        """Puts a pytree on every device; several processes have it all, in equal arrays."""
        return self.put(tree, jax.tree.map(lambda _: self.replicated, tree))

    def shard(self, tree, axis: int):
        """Splits that axis of every array over `data`; replicates arrays without it.

        Of several processes each has the whole arrays, and puts its part on its devices.
        """
        split = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, DATA_AXIS))
        return self.put(
            tree, jax.tree.map(lambda leaf: split if leaf.ndim > axis else self.replicated, tree)
        )

    def put(self, tree, shardings):
        """Puts a pytree where a pytree of shardings says; as `shard`, of several processes."""
        if self.mesh.is_multi_process:
            return jax.tree.map(_put_own_part, tree, shardings)
        return jax.device_put(tree, shardings)


def _put_own_part(leaf: jax.Array | np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array over the devices of several processes, each of which has all of it.

    `jax.device_put` would send the whole array around, to see whether all have the same.
    """
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(lambda array: array, out_shardings=sharding)(leaf)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_own_part(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def fetch(tree):
    """The arrays of a pytree on the host, wherever they lie; all processes must call it."""

    def whole(leaf):
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next start compiles nothing.

    `JAX_COMPILATION_CACHE_DIR` chooses another folder, `JAX_ENABLE_COMPILATION_CACHE=0` turns it
    off.
    """
    if jax.config.jax_compilation_cache_dir is None:
        folder = pooch.os_cache("mqsa_jax") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # Below a fifth of a second, reading a program back costs as much as compiling it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
