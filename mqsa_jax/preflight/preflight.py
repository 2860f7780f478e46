"""Compiles a run's programs for a target in another process, and judges what came out.

Without JAX.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mqsa_jax.attribute_settings import FILES
from mqsa_jax.config import Config
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.mesh_shape import mesh_shape
from mqsa_jax.models.registry import MODELS
from mqsa_jax.preflight import roofline
from mqsa_jax.preflight.hlo import Collective
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.preflight.targets import Target
from mqsa_jax.sampling import Sampling

_PACKAGES = {
    "tpu": ("TPUs", "libtpu", ["libtpu"]),
    "cuda": ("GPUs", "jax-cuda12-plugin and nvidia-cuda-nvcc-cu12", ["jax_plugins.xla_cuda12",
             "nvidia.cuda_nvcc"]),
}  # fmt: skip
"""By platform: what needs which packages, and the modules that these have."""


def preflight(config: Config, topology: str, sizes: Sizes) -> dict[str, Any]:
    """What a run's programs need on a target, as `mqsa-jax preflight --json` writes it.

    Args:
      config: of the run.
      topology: as `Target.of` reads it.
      sizes: of its arrays.

    Returns:
      Figures by name, of one chip unless the name says otherwise; `fits` says whether all of the
      run's programs fit into its memory.

    Raises:
      UserError: if the topology or mesh is none, the compiler is not installed, or fails.
    """
    target = Target.of(topology)
    mesh_shape(config.run.mesh, target.num_chips)
    if MODELS[config.model.model].counted:
        raise UserError(f"{config.model.model} is counted, not trained: there is no program")
    if MODELS[config.model.model].graph != "unused":
        raise UserError(
            f"{config.model.model} works on a graph of all items, whose size only data tell: no "
            "preflight of it"
        )
    settings = config.attributes
    for name in FILES:
        if getattr(settings, name) is not None:
            raise SettingError(
                f"{{{name}}}: how many there are, only the file tells: no preflight with it"
            )
    _check_installed(target)
    return _judged(config, target, sizes, _compiled(config, target, sizes))


def _check_installed(target: Target) -> None:
    devices, packages, modules = _PACKAGES[target.chip.platform]
    if not all(map(_is_installed, modules)):
        extra = target.chip.platform
        raise UserError(
            f"a preflight for {devices} needs {packages}: pip install 'mqsa-jax[{extra}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def environment_of(target: Target) -> dict[str, str]:
    """Environment of a process that compiles for a target."""
    values = os.environ | target.environment()
    # The child imports this very package, wherever it was found.
    root = str(Path(__file__).parents[2])
    values["PYTHONPATH"] = os.pathsep.join(filter(None, [root, values.get("PYTHONPATH")]))
    if target.chip.platform == "cuda":
        (folder,) = importlib.util.find_spec("nvidia.cuda_nvcc").submodule_search_locations
        values["PATH"] = os.pathsep.join([f"{folder}/bin", values.get("PATH", "")])
        values["XLA_FLAGS"] = f"{values.get('XLA_FLAGS', '')} --xla_gpu_cuda_data_dir={folder}"
    return values


def _compiled(config: Config, target: Target, sizes: Sizes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        source, destination = Path(folder, "request.json"), Path(folder, "answer.json")
        request = {"config": config.stored(), "topology": target.topology, "sizes": asdict(sizes)}
        source.write_text(json.dumps(request))
        child = subprocess.run(
            [sys.executable, "-m", "mqsa_jax.preflight.compiling", str(source), str(destination)],
            env=environment_of(target),
            capture_output=True,
            text=True,
        )
        answer = json.loads(destination.read_text()) if destination.exists() else None
    if answer is None:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise UserError(f"compiling for {target.topology} failed: {last}")
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def _judged(
    config: Config, target: Target, sizes: Sizes, compiled: dict[str, Any]
) -> dict[str, Any]:
    train, evaluate = compiled.pop("train"), compiled.pop("evaluate")
    memory = target.chip.memory_bytes
    result = {
        "topology": target.topology,
        "chip": target.chip.title,
        "chips": target.num_chips,
        "sizes": asdict(sizes),
        "dim": config.model.dim,
        "batch_size": config.training.batch_size,
        "hbm_bytes_per_chip": memory,
        **compiled,
        **_memory(train),
        "evaluation": _memory(evaluate),
        **{name: train[name] for name in ("inner_loops", "host_loops") if name in train},
        "kernels_per_step": train.get("kernels"),
        "collectives": train.get("collectives", []),
    }
    collectives = [Collective(**each) for each in result["collectives"]]
    result["collective_bytes_per_step"] = sum(each.times * each.bytes for each in collectives)
    result |= _step(config, target, sizes, result, collectives)
    both = (result, result["evaluation"])
    result["fits"] = all(
        each["total_bytes_per_chip"] is not None and each["total_bytes_per_chip"] <= memory
        for each in both
    )
    return result


def _memory(program: dict[str, Any]) -> dict[str, Any]:
    names = ("argument", "output", "temporary", "code")
    sizes = {f"{name}_bytes_per_chip": program.get(f"{name}_bytes") for name in names}
    exhausted = program.get("exhausted")
    total = None if exhausted else sum(sizes.values())
    largest = _named_by_compiler(exhausted) if exhausted else program["largest"]
    return {**sizes, "total_bytes_per_chip": total, "largest_arrays": largest, "error": exhausted}


def _named_by_compiler(message: str) -> list[list[Any]]:
    """Size, shape and origin of the largest allocations that the compiler's message lists."""
    found = re.findall(
        r"Size: (\S+)\n(?:.*\n)*?\s*(?:Operator: op_name=\"([^\"]*)\".*\n)?\s*Shape: (\S+)", message
    )
    return [[size, shape, origin] for size, origin, shape in found[:5]]


def _step(
    config: Config,
    target: Target,
    sizes: Sizes,
    result: dict[str, Any],
    collectives: list[Collective],
) -> dict[str, Any]:
    """Flops of a step, and its time by roofline."""
    model, rows, items = config.model, result["logit_rows_per_chip"], result["items_per_chip"]
    sampling = Sampling.of(config)
    if sampling is not None:
        # As columns of logits: the items drawn and, where they serve, the targets of a shard.
        items = sampling.num_negatives + sampling.in_batch * sizes.rows * model.max_len
    flops = roofline.logit_flops(rows, model.dim, items)
    flops += roofline.encoder_flops(sizes.rows * model.max_len, model.dim, model.max_len,
                                    model.num_blocks)  # fmt: skip
    time = roofline.step_time(
        target.chip,
        flops=flops,
        logit_bytes=4 * rows * items,
        parameter_bytes=result["parameters"],
        moment_bytes=result["moments"],
        exchanges=collectives,
        kernels=result["kernels_per_step"] or 0,
    )
    return {
        "flops_per_step": flops * target.num_chips,
        "flops_per_step_per_chip": flops,
        "seconds_per_step": time.total,
        "seconds_by_kind": asdict(time),
        "assumptions": list(roofline.ASSUMPTIONS),
    }
