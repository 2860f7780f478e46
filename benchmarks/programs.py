"""Training and evaluation compiled for TPUs and GPUs that are not there, at many sizes.

python -m benchmarks.programs

Needs the extras `tpu` and `cuda`. Each program that is compiled is added at once to
docs/performance/programs.json;
those that are there already are left as they are, so that the same command goes on.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import tyro

from mqsa_jax.errors import UserError
from mqsa_jax.grid import with_flags
from mqsa_jax.preflight.preflight import preflight
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.preflight.targets import Target
from mqsa_jax.presets import default_config
from mqsa_jax.runs.files import write_json
from mqsa_jax.runs.provenance import provenance

FILE = Path(__file__).parents[1] / "docs" / "performance" / "programs.json"
USERS, POSITIONS, SUCCESSORS = 1_000_000, 8.0, 8.0
"""Of the data, as `mqsa-jax preflight` takes them by default."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled; items are split over both axes of the mesh."""

    series: str
    topology: str
    mesh: str
    items: int
    dim: int = 64
    batch_size: int = 4096

    @property
    def name(self) -> str:
        """Its key in the file."""
        size = f"{self.items}-{self.dim}-{self.batch_size}"
        return f"{self.series} {self.topology} {self.mesh} {size}"


MESHES = {
    "v5e:2x2": "data=2,model=2",
    "v5e:4x4": "data=4,model=4",
    "v5e:8x8": "data=8,model=8",
    "v5e:16x16": "data=16,model=16",
    "v6e:16x16": "data=16,model=16",
    "v5p:4x4x4": "data=4,model=16",
    "8xh100": "data=2,model=4",
}


def programs() -> list[Program]:
    """All of them, those first that are asked for most."""
    sizes = [
        Program("sizes", topology, MESHES[topology], items, dim)
        for dim in (64, 128)
        for topology in ("v5e:16x16", "v5e:4x4", "v6e:16x16", "v5p:4x4x4")
        for items in (10_000_000, 100_000_000, 1_000_000)
    ]
    slices = ("v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16")
    strong = [Program("strong", each, MESHES[each], 1_000_000) for each in slices]
    weak = [
        Program("weak", each, MESHES[each], 39_063 * chips, batch_size=16 * chips)
        for each, chips in zip(slices, (4, 16, 64, 256), strict=True)
    ]
    gpus = [Program("gpus", "8xh100", MESHES["8xh100"], items) for items in (1_000_000, 10_000_000)]
    return [*sizes[:3], *strong, *weak, *gpus, *sizes[3:]]


def compiled(program: Program) -> dict[str, Any]:
    """What a preflight finds, or the line that says why there is no program."""
    base = default_config("", "mqsa-ted")
    config = with_flags(
        base,
        mesh=program.mesh,
        shard_items="all",
        dim=program.dim,
        batch_size=program.batch_size,
    )
    sizes = Sizes.estimated(
        config,
        Target.of(program.topology).num_chips,
        items=program.items,
        users=USERS,
        positions=POSITIONS,
        successors=SUCCESSORS,
    )
    try:
        return preflight(config, program.topology, sizes)
    except UserError as error:
        return {"error": str(error)}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compiled."""

    most: int = 1000
    """Programs that are compiled before the command ends."""
    only: str = ""
    """Part of their names in the file, as `v5p` or `-128-`; others are left out."""


def main(options: Options) -> None:
    """Compiles what is missing."""
    found = json.loads(FILE.read_text()) if FILE.exists() else {"programs": {}}
    missing = [
        program
        for program in programs()
        if program.name not in found["programs"] and options.only in program.name
    ]
    for program in missing[: options.most]:
        result = compiled(program)
        compiler = "libtpu" if program.series != "gpus" else "jax-cuda12-pjrt"
        made = {"commit": provenance(jax.devices())["commit"]}
        made["compiler"] = f"{compiler} {version(compiler)}"
        found["programs"][program.name] = {**dataclasses.asdict(program), **made, **result}
        write_json(FILE, found)
        total = result.get("total_bytes_per_chip")
        print(program.name, result.get("error") if total is None else f"{total / 2**20:.0f} MiB")


if __name__ == "__main__":
    main(tyro.cli(Options))
