"""Which devices work, how arrays lie on them, and where programs compiled for them are kept.

Users are split over the axis `data`; all else is replicated.
"""

import dataclasses

import jax
import numpy as np
import pooch
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mqsa_jax.errors import SettingError

DATA_AXIS = "data"


@dataclasses.dataclass(frozen=True)
class DeviceLayout:
    """A mesh of the devices of all processes with one axis, `data`."""

    mesh: Mesh

    @classmethod
    def of(cls, num_devices: int | None) -> "DeviceLayout":
        """Over the first `num_devices` local devices of each process; None: all of them.

        Raises SettingError if a process has fewer.
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
        return cls(Mesh(np.array(chosen), (DATA_AXIS,), axis_types=(AxisType.Auto,)))

    @property
    def devices(self) -> list[jax.Device]:
        """The devices of the mesh."""
        return list(self.mesh.devices.flat)

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`."""
        return self.devices[0].platform

    @property
    def num_shards(self) -> int:
        """How many parts a batch is split into: one a device."""
        return self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        """The same array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def replicate(self, tree):
        """Puts a pytree on every device; several processes have it all, in equal arrays."""
        return self._put(tree, jax.tree.map(lambda _: self.replicated, tree))

    def shard(self, tree, axis: int):
        """Splits that axis of every array over `data`; replicates arrays without it.

        Of several processes each has the whole arrays, and puts its part on its devices.
        """
        split = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, DATA_AXIS))
        return self._put(
            tree, jax.tree.map(lambda leaf: split if leaf.ndim > axis else self.replicated, tree)
        )

    def _put(self, tree, shardings):
        if self.mesh.is_multi_process:
            return jax.tree.map(_put_own_part, tree, shardings)
        return jax.device_put(tree, shardings)


def _put_own_part(leaf: jax.Array | np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array over the devices of several processes, each of which has all of it.

    `jax.device_put` would send the whole array around, to see whether all have the same.
    """
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return (
            leaf
            if leaf.sharding == sharding
            else jax.jit(lambda x: x, out_shardings=sharding)(leaf)
        )
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_own_part(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


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
