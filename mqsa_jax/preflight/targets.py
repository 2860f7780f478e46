"""Accelerators to compile for: published figures, and topologies as they are written.

Without JAX, so that a mistyped topology is told at once.
"""

import dataclasses
import math
import re
from typing import Literal

from mqsa_jax.errors import SettingError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is published of one chip; rates are peaks."""

    title: str
    platform: Literal["tpu", "cuda"]
    memory_bytes: int
    """Of high-bandwidth memory, as far as programs get it."""
    flops: float
    """Multiplications and additions of bfloat16 a second; where `precision` is float32, JAX's
    default rounds factors to bfloat16 on TPUs and to TF32, at half the rate, on GPUs."""
    memory_bandwidth: float
    """Bytes a second."""
    link_bandwidth: float
    """Bytes a second that the chip sends to its neighbours, over all links, one way."""
    source: str
    accelerator_type: str = ""
    """Prefix of what Google calls a slice; followed by its number of chips or cores."""
    cores: int = 1
    """Cores that a slice's name counts for each chip."""


_TPU_DOCS = "https://cloud.google.com/tpu/docs"
CHIPS = {
    # The compiler leaves 15.75 of v5e's 16 GiB to programs.
    "v5e": Chip(
        "TPU v5e", "tpu", int(15.75 * GIB), 197e12, 819e9, 200e9, f"{_TPU_DOCS}/v5e", "v5litepod"
    ),
    "v5p": Chip("TPU v5p", "tpu", 95 * GIB, 459e12, 2765e9, 600e9, f"{_TPU_DOCS}/v5p", "v5p", 2),
    "v6e": Chip(
        "TPU v6e", "tpu", int(31.25 * GIB), 918e12, 1640e9, 448e9, f"{_TPU_DOCS}/v6e", "v6e"
    ),
    "h100": Chip(
        "H100 SXM 80 GB", "cuda", 80 * 10**9, 989e12, 3350e9, 450e9,
        "https://www.nvidia.com/en-us/data-center/h100",
    ),
}  # fmt: skip
"""Figures of the vendors' pages, by the name that topologies begin with."""

H100_CONFIG = """\
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  memory_bandwidth: 3350000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 80000000000
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  name: "NVIDIA H100 80GB HBM3"
  driver_version: "12.9.0"
  runtime_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA's GPU compiler asks of a card, as a text proto: limits of compute capability 9.0 from
the CUDA C++ Programming Guide, sizes and rates from NVIDIA's H100 architecture white paper."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A slice of TPUs or a host of GPUs."""

    topology: str
    """As it was written: `v5e:16x16`, `h100`, `8xh100`."""
    chip: Chip
    num_chips: int

    @classmethod
    def of(cls, topology: str) -> "Target":
        """Raises SettingError if there is no such topology.

        Example:
          >>> Target.of("v5e:16x16").num_chips, Target.of("8xh100").num_chips
          (256, 8)
        """
        name, _, shape = topology.partition(":")
        gpus = re.fullmatch(r"(?:([1-9]\d*)x)?h100", topology)
        if gpus:
            return cls(topology, CHIPS["h100"], int(gpus[1] or 1))
        is_tpu = name in CHIPS and CHIPS[name].platform == "tpu"
        if is_tpu and re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
            return cls(topology, CHIPS[name], math.prod(map(int, shape.split("x"))))
        raise SettingError(
            f"{{topology}} must be like v5e:16x16, v6e:16x16, v5p:4x4x4, h100 or 8xh100, "
            f"got {topology!r}"
        )

    def environment(self) -> dict[str, str]:
        """Environment variables that the compiler reads as JAX starts."""
        common = {"JAX_PLATFORMS": "cpu", "MQSA_CPU_KERNELS": "0"}
        if self.chip.platform == "cuda":
            return common
        # Without them libtpu asks the cloud's metadata server which machine this is.
        slice_name = f"{self.chip.accelerator_type}-{self.num_chips * self.chip.cores}"
        return common | {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": slice_name,
            "TPU_WORKER_HOSTNAMES": "localhost",
            # Several processes may compile: none of them drives a chip.
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
