"""Several processes that train one run, on one machine or many: joined, told apart, and ended.

The engine is `jax.distributed`. TPU pods, SLURM, Open MPI and Kubernetes tell a process its number
and where the first one is; elsewhere flags do. A process that nobody tells so works alone.

The first process alone prints and writes files. What the processes must agree on, such as whether
a checkpoint is whole, the first one finds out and tells the others.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mqsa_jax.errors import LostPeerError, SettingError, UserError

ADDRESS_VARIABLE = "JAX_COORDINATOR_ADDRESS"
HEARTBEAT_SECONDS = 30
"""Without a sign of life, after which a process counts as dead and the others are ended."""
JOIN_SECONDS = 300
"""How long processes wait for each other when they start."""
_LOST = re.compile(
    r"gloo|nccl|coordination service|connection (closed|reset)|heartbeat|unhealthy|barrier|"
    r"socket closed|DEADLINE_EXCEEDED|UNAVAILABLE",
    re.IGNORECASE,
)
"""How collectives, barriers and the coordination service say that a process is gone."""
_COUNTS = {
    "SLURM": ("SLURM_NTASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}
"""Variables of a launcher that hold the number of processes and that of this one."""
_process_index = 0
_process_count = 1


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return _process_index == 0


def num_processes() -> int:
    """Processes that train together; 1 unless `join` found others."""
    return _process_count


def join(address: str | None, processes: int | None, index: int | None) -> None:
    """Joins the other processes of a run, if there are any; once is enough.

    Args:
      address: HOST:PORT of the first process; None: `JAX_COORDINATOR_ADDRESS`, or as the launcher
        says.
      processes: how many there are; None: as the launcher says.
      index: of this one; None: as the launcher says.

    Raises:
      UserError: if the settings contradict each other or are half given, or the others cannot be
        reached.
    """
    global _process_index, _process_count
    if _process_count > 1:
        return
    arguments = _arguments(address, processes, index, os.environ)
    if arguments is None:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
        )
        _process_index, _process_count = jax.process_index(), jax.process_count()
    except (ValueError, RuntimeError, LookupError, OSError) as error:
        where = arguments.get("coordinator_address") or "as the launcher says"
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(
            f"cannot join the other processes ({where}): {reason}; check that the first one runs "
            "and its port is free"
        ) from None


def _arguments(
    address: str | None, processes: int | None, index: int | None, env: Mapping[str, str]
) -> dict[str, str | int] | None:
    """What `jax.distributed.initialize` is to be given; None for a process that works alone."""
    told = address is not None or processes is not None or index is not None
    address = address or env.get(ADDRESS_VARIABLE)
    launcher, count, own = _launched(env)
    if address is None:
        if told:
            raise SettingError(
                "{num_processes} and {process_id} need {coordinator_address}, or "
                f"{ADDRESS_VARIABLE} in the environment"
            )
        return _detected(launcher, count, env)
    _check_address(address)
    processes = count if processes is None else processes
    index = own if index is None else index
    if processes is None or index is None:
        if _on_tpu_pod(env):
            return {"coordinator_address": address}
        raise SettingError(
            f"{{coordinator_address}} {address} needs {{num_processes}} and {{process_id}} too, "
            "which no launcher tells here"
        )
    if not 0 <= index < processes:
        raise SettingError(
            f"{{process_id}} must be from 0 to {{num_processes}} - 1 = {processes - 1}, got {index}"
        )
    if processes == 1:
        return None
    found = {"coordinator_address": address, "num_processes": processes, "process_id": index}
    # Looked for, SLURM and Open MPI also give each process a GPU of its own.
    return found if launcher else {**found, "cluster_detection_method": "deactivate"}


def _launched(env: Mapping[str, str]) -> tuple[str, int | None, int | None]:
    """Name of the launcher, number of processes, and that of this one; empty without a launcher."""
    for name, variables in _COUNTS.items():
        # A SLURM script has these variables too; a step of srun alone has the list of its nodes.
        if name == "SLURM" and "SLURM_STEP_NODELIST" not in env:
            continue
        if all(env.get(variable, "").isdigit() for variable in variables):
            count, own = (int(env[variable]) for variable in variables)
            return name, count, own
    return "", None, None


def _detected(launcher: str, count: int | None, env: Mapping[str, str]) -> dict | None:
    """No arguments, where JAX finds the others by itself; None for a process that works alone."""
    if launcher:
        if count == 1:
            return None
        if launcher == "Open MPI" and "OMPI_MCA_orte_hnp_uri" not in env:
            raise UserError(
                f"this version of Open MPI starts {count} processes and does not say where the "
                f"first one is: set {ADDRESS_VARIABLE}=HOST:PORT for all of them (mpirun -x)"
            )
        return {}
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:
        if find_spec("kubernetes") is None:
            raise SettingError(
                "processes of an indexed Job of Kubernetes find each other by the package "
                "kubernetes, which is not installed: install jax[k8s], or give "
                "{coordinator_address}, {num_processes} and {process_id}"
            )
        return {}
    return {} if _on_tpu_pod(env) else None


def _on_tpu_pod(env: Mapping[str, str]) -> bool:
    """Whether this is a host of a TPU slice that may have others."""
    platforms = env.get("JAX_PLATFORMS", "tpu")
    if "tpu" not in platforms.split(","):
        return False
    names = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    if names:
        return "," in names
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]
    return bool(chips) and "TPU_SKIP_MDS_QUERY" not in env and find_spec("libtpu") is not None


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise SettingError(f"{{coordinator_address}} must be HOST:PORT, got {address}")


def told_by_first(find: Callable[[], str]) -> str:
    """What the first process finds out, in all of them. All must call it, in the same order."""
    if _process_count == 1:
        return find()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = np.frombuffer(find().encode() if is_first() else b"", np.uint8)
    size = int(broadcast_one_to_all(np.int32(content.size)))
    if not is_first():
        content = np.zeros(size, np.uint8)
    return broadcast_one_to_all(content).tobytes().decode() if size else ""


def wait_for_others(where: str) -> None:
    """Goes on when all processes are here; `where` must be the same in all."""
    if _process_count > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(where)


def check_agreement(what: str, value: str) -> None:
    """Raises UserError in the processes whose value is not that of the first."""
    first = told_by_first(lambda: value)
    if value != first:
        raise UserError(
            f"process {_process_index} has another {what} than the first one ({value}, not "
            f"{first}); give all processes the same data and flags"
        )


def means_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process has ended or cannot be reached."""
    if isinstance(error, LostPeerError):
        return True
    # A barrier that nobody else comes to is a TimeoutError: an OSError, but not of the system.
    mendable = isinstance(error, UserError) or getattr(error, "errno", None) is not None
    return _process_count > 1 and not mendable and bool(_LOST.search(str(error)))


def leave(code: int, together: bool) -> None:
    """Leaves the other processes at the end of a command; does nothing in a process alone.

    Args:
      code: exit code of the command.
      together: whether all processes come here. If not, this one ends at once and waits for
        nobody: the others are told by their next collective, or by the missing heartbeat.
    """
    if _process_count == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if not together:
        os._exit(code)
    import jax

    jax.distributed.shutdown()
