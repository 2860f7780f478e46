"""Real processes that each pack their own shards of a stream's batches."""

import contextlib
import os
import socket
import subprocess
import sys

import jax
import pytest

from mqsa_jax.data.packing import Capacity
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.training.process_shares import largest_of_processes, own_shards
from tests.data.stream_cases import random_histories, write_folder


def test_one_process_packs_all_shards():
    layout = DeviceLayout.of(2)
    assert own_shards(layout) is None
    assert largest_of_processes(Capacity(1, 2, 3)) == Capacity(1, 2, 3)


@pytest.mark.parametrize("count", [2])
def test_shares_put_together_are_the_batches(tmp_path, count):
    folder = write_folder(tmp_path / "log", random_histories(101), group_events=15)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(4 // count),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.training.process_shares_case"]
                    + [str(folder), str(port), str(number), str(count)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            for number in range(count)
        ]
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert all("equal range(" in output for output in outputs), "\n".join(outputs)
    assert not any(process.returncode for process in processes)
