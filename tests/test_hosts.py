"""What a process is told of the others, and what it makes of it; without any process."""

import pytest

from mqsa_jax import hosts
from mqsa_jax.commands.train import train_main
from mqsa_jax.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-4]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}
ORTE = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}
POD = {"TPU_WORKER_HOSTNAMES": "a,b,c,d", "TPU_WORKER_ID": "3"}
ALONE = {"cluster_detection_method": "deactivate"}


def found(env: dict[str, str], address=None, processes=None, index=None):
    return hosts._arguments(address, processes, index, env)


def given(address: str, processes: int, index: int) -> dict:
    return {"coordinator_address": address, "num_processes": processes, "process_id": index}


@pytest.mark.parametrize(
    "env",
    [
        {},
        {**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {**POD, "JAX_PLATFORMS": "cpu"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    ],
)
def test_a_process_that_nobody_tells_of_others_works_alone(env):
    assert found(env) is None


@pytest.mark.parametrize("env", [SLURM, {**OPEN_MPI, **ORTE}, POD])
def test_jax_finds_the_others_where_a_launcher_tells_of_them(env):
    assert found(env) == {}


def test_flags_tell_of_the_others():
    assert found({}, "a:1", 2, 1) == {**given("a:1", 2, 1), **ALONE}
    assert found({"JAX_COORDINATOR_ADDRESS": "b:2"}, None, 2, 0) == {**given("b:2", 2, 0), **ALONE}
    assert found({"JAX_COORDINATOR_ADDRESS": "b:2"}, "a:1", 2, 0)["coordinator_address"] == "a:1"
    assert found({}, "a:1", 1, 0) is None


def test_an_address_is_enough_where_a_launcher_numbers_the_processes():
    assert found({"JAX_COORDINATOR_ADDRESS": "b:2", **OPEN_MPI}) == given("b:2", 4, 3)
    assert found(SLURM, "a:1") == given("a:1", 4, 3)
    assert found(POD, "a:1") == {"coordinator_address": "a:1"}


@pytest.mark.parametrize(
    ("env", "settings", "named"),
    [
        ({}, ("a:1",), "needs num_processes and process_id too"),
        ({}, ("a:1", 2), "needs num_processes and process_id too"),
        ({}, ("a:1", None, 0), "needs num_processes and process_id too"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, (), "needs num_processes and process_id too"),
        ({}, (None, 2, 0), "need coordinator_address, or JAX_COORDINATOR_ADDRESS"),
        ({}, (None, None, 0), "need coordinator_address, or JAX_COORDINATOR_ADDRESS"),
        ({}, ("a:1", 2, 2), "process_id must be from 0 to num_processes - 1 = 1, got 2"),
        ({}, ("a", 2, 0), "must be HOST:PORT, got a"),
        ({}, ("a:b", 2, 0), "must be HOST:PORT, got a:b"),
        ({}, (":1", 2, 0), "must be HOST:PORT, got :1"),
        ({}, ("a:70000", 2, 0), "must be HOST:PORT, got a:70000"),
        (OPEN_MPI, (), "set JAX_COORDINATOR_ADDRESS=HOST:PORT for all of them"),
    ],
)
def test_half_given_settings_are_refused_in_one_line(env, settings, named):
    with pytest.raises(UserError) as caught:
        found(env, *settings)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_an_indexed_job_of_kubernetes_needs_its_package(monkeypatch):
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
    monkeypatch.setattr(hosts, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install jax\[k8s\]"):
        found(env)
    monkeypatch.setattr(hosts, "find_spec", lambda name: name)
    assert found(env) == {}


def test_the_command_line_names_the_flags(capsys, tmp_path):
    run = ["--run-dir", str(tmp_path / "run")]
    assert train_main([*run, "--num-processes=2", "--process-id=0"]) == 2
    message = capsys.readouterr().err
    assert "--num-processes and --process-id need --coordinator-address" in message
    assert message.count("\n") == 1 and not (tmp_path / "run").exists()
    assert train_main([*run, "--num-processes=0"]) == 2
    assert "--num-processes must be at least 1, got 0" in capsys.readouterr().err


def test_alone_a_process_is_the_first_and_waits_for_nobody():
    assert hosts.is_first() and hosts.num_processes() == 1
    assert hosts.told_by_first(lambda: "whole") == "whole"
    hosts.wait_for_others("here")
    hosts.check_agreement("data set", "x")
    assert not hosts.means_lost_peer(ValueError("Gloo all-reduce failed"))
