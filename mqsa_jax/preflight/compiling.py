"""`python -m mqsa_jax.preflight.compiling IN OUT`: compiles the programs of a run for a target.

A process of its own, as compilers read their environment when JAX starts. IN and OUT are JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from mqsa_jax.config import Config
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.preflight.abstract_run import abstract_epoch, abstract_evaluation, table_bytes
from mqsa_jax.preflight.hlo import largest_arrays, step_profile
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.preflight.targets import H100_CONFIG, Target

LARGEST = 5
"""Arrays that are named."""
_OPTIONS = {
    "tpu": {},
    # Without a card nothing can be timed, so that there is nothing to tune.
    "cuda": {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0},
}


def devices_of(target: Target) -> list[jax.Device]:
    """The devices of a target, which programs can be compiled for but not run on.

    Raises:
      UserError: if the compiler knows no such topology.
    """
    try:
        if target.chip.platform == "tpu":
            topology = topologies.get_topology_desc(target.topology, "tpu")
        else:
            topology = topologies.get_topology_desc(
                "", "cuda", topology=f"1x1x{target.num_chips}", target_config=H100_CONFIG
            )
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no topology {target.topology} for this compiler: {reason}") from None
    return list(topology.devices)


def measured(config: Config, target: Target, sizes: Sizes) -> dict[str, Any]:
    """What the compiler says of both programs of a run."""
    layout = DeviceLayout.over(devices_of(target), config.run.mesh, config.run.shard_items)
    shards_of_batch = 1 if layout.item_axes == ("model",) or not layout.item_axes else -1
    own_rows = sizes.rows_of_logits(config.model.max_len)
    rows = own_rows if shards_of_batch == 1 else own_rows * layout.num_shards
    parts = layout.item_rows(sizes.items)
    for axis in layout.item_axes:
        parts //= layout.mesh.shape[axis]
    chunk = chunk_rows(rows, parts, layout.platform)
    return {
        "mesh": dict(layout.mesh.shape),
        "item_axes": list(layout.item_axes),
        "logit_rows_per_chip": rows,
        "items_per_chip": parts,
        "logit_rows_at_a_time": chunk,
        **table_bytes(config, layout, sizes),
        "train": _program(abstract_epoch(config, layout, sizes), target, -(-rows // chunk)),
        "evaluate": _program(abstract_evaluation(config, layout, sizes), target, 1),
    }


def _program(lowered: jax.stages.Lowered, target: Target, turns: int) -> dict[str, Any]:
    try:
        compiled = lowered.compile(compiler_options=_OPTIONS[target.chip.platform])
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"exhausted": str(error)}
    memory, text = compiled.memory_analysis(), compiled.as_text()
    profile = dataclasses.asdict(step_profile(text, turns)) if " while(" in text else {}
    if profile and target.chip.platform == "tpu":
        profile["host_loops"] = 0  # A TPU runs loops by itself.
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "largest": largest_arrays(text, LARGEST),
        **profile,
    }


def main(source: str, destination: str) -> None:
    """Reads a request, compiles, writes the answer: figures, or the message of a user's error."""
    request = json.loads(Path(source).read_text())
    config, target = Config.from_stored(request["config"]), Target.of(request["topology"])
    try:
        answer = measured(config, target, Sizes(**request["sizes"]))
    except UserError as error:
        answer = {"error": error.with_flags if isinstance(error, SettingError) else str(error)}
    Path(destination).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
