"""A step's time from published peaks: a lower bound, by a model whose assumptions are named."""

import dataclasses
from collections.abc import Iterable

from mqsa_jax.preflight.hlo import Collective
from mqsa_jax.preflight.targets import Chip

LOGIT_PASSES = 4
"""Times that a logit goes through memory: written, read for the sum and by two products."""
TABLE_PASSES = 8
"""Times that a float of a table does: read by three products, a gradient written and read; Adam
reads and writes beside them what `moment_bytes` counts."""
LAUNCH_SECONDS = {"cuda": 4e-6, "tpu": 0.0}
"""Of a kernel, between its neighbours; TPUs run a step as one program."""
ASSUMPTIONS = (
    "matrix products at the peak of bfloat16 (TF32 on GPUs: half of it)",
    f"every logit passes memory {LOGIT_PASSES} times, every parameter {TABLE_PASSES} times, every "
    "moment twice",
    "rings over all links of a chip; arithmetic, memory, exchanges and launches do not overlap",
    "4 microseconds a kernel on GPUs",
)


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step by what takes them."""

    arithmetic: float
    memory: float
    exchanges: float
    launches: float

    @property
    def total(self) -> float:
        """If nothing overlaps: arithmetic and memory do, in a kernel, so the longer of the two."""
        return max(self.arithmetic, self.memory) + self.exchanges + self.launches


def logit_flops(rows: int, dim: int, items: int) -> int:
    """Of the logits of rows over items and of their gradients: three products of 2 N D V.

    Example:
      >>> logit_flops(rows=10, dim=2, items=100)
      12000
    """
    return 3 * 2 * rows * dim * items


def encoder_flops(positions: int, dim: int, max_len: int, blocks: int) -> int:
    """Of both branches and their gradients: three times those of the products going forwards.

    A position takes 5 products with [D, D], and in the attention and the windowed mean three rows
    of T weights.
    """
    return 3 * 2 * blocks * positions * (5 * 2 * dim * dim + 3 * 2 * max_len * dim)


def exchange_seconds(exchanges: Iterable[Collective], chip: Chip) -> float:
    """Of all exchanges of a step, by rings of n devices: an all-reduce sends 2 (n - 1) / n of its
    bytes, the others (n - 1) / n.

    A group whose size is not known counts as very large.
    """
    seconds = 0.0
    for each in exchanges:
        sent = (each.devices - 1) / each.devices if each.devices else 1.0
        passes = 2 if each.kind == "all-reduce" else 1
        seconds += each.times * passes * sent * each.bytes / chip.link_bandwidth
    return seconds


def step_time(
    chip: Chip,
    *,
    flops: float | int,
    logit_bytes: float | int,
    parameter_bytes: float | int,
    moment_bytes: float | int,
    exchanges: Iterable[Collective],
    kernels: int,
) -> StepTime:
    """The time of a step on one chip, every argument being what that chip has of it.

    Args:
      chip: its peaks.
      flops: multiplications and additions.
      logit_bytes: of all logits of the step.
      parameter_bytes: of the parameters.
      moment_bytes: of the moments of Adam.
      exchanges: with other devices.
      kernels: that are launched.
    """
    rate = chip.flops / 2 if chip.platform == "cuda" else chip.flops
    traffic = LOGIT_PASSES * logit_bytes + TABLE_PASSES * parameter_bytes + 2 * moment_bytes
    return StepTime(
        arithmetic=flops / rate,
        memory=traffic / chip.memory_bandwidth,
        exchanges=exchange_seconds(exchanges, chip),
        launches=kernels * LAUNCH_SECONDS[chip.platform],
    )
