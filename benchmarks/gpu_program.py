"""Kernels, loops and memory of an epoch's program compiled for one H100, commit by commit.

python -m benchmarks.gpu_program [--commits ed0111a,HEAD] [--dataset toys] [--data-dir DIR]

Needs no GPU but the extra `cuda`. Each commit is checked out beside this one for its own process.
Kernels are those launched in a step, inner loops counted once. Of the inner loops, the host waits
for those whose number of turns only the device knows.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

from benchmarks.measure import report
from mqsa_jax.preflight.hlo import step_profile
from mqsa_jax.preflight.preflight import environment_of
from mqsa_jax.preflight.targets import H100_CONFIG, Target

_COMPILE = """
import inspect, json, sys
from functools import partial
import jax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from mqsa_jax.data.sources import load_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.presets import default_config
from mqsa_jax.training.epoch import run_steps
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import run_key

dataset, data_dir, card, path = json.loads(sys.argv[1])
experiment = Experiment(
    default_config(dataset, "mqsa-ted"), load_histories(dataset, data_dir), DeviceLayout.of(1)
)
relations = experiment.relations()
old = inspect.signature(experiment.batch_source).parameters  # takes the counts
source = experiment.batch_source(*[relations.counts for _ in old])
batch = next(iter(source.batches(0, 512, source.capacity())))
topology = topologies.get_topology_desc("", "cuda", topology="1x1x1", target_config=card)
where = NamedSharding(Mesh(topology.devices, ("data",)), PartitionSpec())
abstract = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
    (experiment.initial_state(), batch, run_key(0), relations),
)
program = jax.jit(partial(run_steps, recommender=experiment.recommender), out_shardings=where)
options = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}
compiled = program.lower(*abstract).compile(compiler_options=options)
with open(path, "w") as file:
    json.dump([compiled.as_text(), compiled.memory_analysis().temp_size_in_bytes], file)
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compiled."""

    commits: str = "ed0111a,HEAD"
    """Commits, with commas between them."""
    dataset: str = "toys"
    """A data set's name, or the path of a file `user item item ...`."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""


def compiled_at(commit: str, options: Options) -> dict[str, float | str]:
    """A row of the table, from the code of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree, path = Path(folder, "code"), Path(folder, "program.json")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            request = [options.dataset, options.data_dir, H100_CONFIG, str(path)]
            subprocess.run(
                [sys.executable, "-c", _COMPILE, json.dumps(request)],
                cwd=tree,
                env={**environment_of(Target.of("h100")), "PYTHONPATH": ""},
                stderr=subprocess.DEVNULL,
                check=True,
            )
        finally:
            _git("worktree", "remove", "--force", str(tree))
        text, temporary = json.loads(path.read_text())
    profile = step_profile(text)
    return {
        "commit": _git("rev-parse", "--short", commit),
        "kernels a step": profile.kernels,
        "inner loops": profile.inner_loops,
        "loops the host waits for": profile.host_loops,
        "temp_mib": temporary / 2**20,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main(options: Options) -> None:
    """Compiles and reports."""
    rows = [compiled_at(commit, options) for commit in options.commits.split(",")]
    report("gpu_program", rows, options.dataset)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
