"""`mqsa-jax preflight`: what is compiled, what is told, and that it is the program of training."""

import dataclasses
import importlib.util
import json
import os

import jax
import pytest

from mqsa_jax.__main__ import main
from mqsa_jax.commands.train import train_main
from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig
from mqsa_jax.data import packing
from mqsa_jax.data.synthetic import synthetic_histories
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.preflight import preflight as module
from mqsa_jax.preflight import sizes as sizes_module
from mqsa_jax.preflight.abstract_run import abstract_epoch, abstract_evaluation
from mqsa_jax.preflight.data_sizes import sizes_of
from mqsa_jax.preflight.report import check_fits, in_words
from mqsa_jax.preflight.sizes import Sizes
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import STEPS_PER_PROGRAM

CONFIG = Config(model=ModelConfig(dim=8, max_len=6), training=TrainingConfig(batch_size=16, seed=1))
COMPILED = {
    "mesh": {"data": 2, "model": 2},
    "item_axes": ["model"],
    "logit_rows_per_chip": 100,
    "items_per_chip": 50,
    "logit_rows_at_a_time": 100,
    "parameters": 2**20,
    "moments": 2**21,
    "average": 0,
    "train": {
        "argument_bytes": 2**30,
        "output_bytes": 2**28,
        "temporary_bytes": 2**29,
        "code_bytes": 2**27,
        "largest": [[2**29, "f32[100,1342177]", "jit(steps)"]],
        "kernels": 12,
        "inner_loops": 2,
        "host_loops": 0,
        "collectives": [{"kind": "all-reduce", "bytes": 2**20, "devices": 2, "times": 3}],
    },
    "evaluate": {
        "argument_bytes": 1,
        "output_bytes": 1,
        "temporary_bytes": 1,
        "code_bytes": 1,
        "largest": [[1, "f32[]", ""]],
    },
}
"""What the compiling process answers."""


def test_constants_are_those_of_training():
    assert sizes_module.STEPS_PER_PROGRAM == STEPS_PER_PROGRAM
    assert sizes_module.MARGIN == packing.CAPACITY_MARGIN


def test_it_is_the_very_program_of_training():
    """Lowered from shapes alone, the text is that of the arrays of a run."""
    experiment = Experiment(CONFIG, synthetic_histories(), DeviceLayout.of(1))
    sizes = sizes_of(CONFIG, experiment.histories, 1)
    source = experiment.batch_source()
    (batch,) = source.batches(0, STEPS_PER_PROGRAM, source.capacity())
    expected = jax.eval_shape(lambda: batch)
    lowered = abstract_epoch(CONFIG, experiment.layout, sizes)
    state, own, *_ = lowered.args_info[0]
    assert jax.tree.map(lambda leaf: leaf.shape, own) == jax.tree.map(
        lambda leaf: leaf.shape, expected
    )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), experiment.initial_state()
    )


@pytest.mark.parametrize("shard_items", ["model", "all"])
def test_the_evaluation_is_lowered_for_a_mesh(shard_items):
    layout = DeviceLayout.of(8, "data=4,model=2", shard_items)
    figures = dict(items=30, users=100, positions=4.0, successors=2.0)
    sizes = Sizes.estimated(CONFIG, 1, **figures)
    lowered = abstract_evaluation(CONFIG, layout, sizes)
    assert lowered.out_info.shape == (100,)


def test_estimated_sizes():
    """8 users on each of 2 shards, 3 positions each and a tenth more: 26.4, in 5 rows of 6."""
    config = Config(model=ModelConfig(dim=8, max_len=6), training=TrainingConfig(batch_size=16))
    sizes = Sizes.estimated(config, 2, items=25, users=100, positions=3.0, successors=2.0)
    assert sizes == Sizes(25, 100, 3.0, steps=7, rows=5, distinct=25, transitions=50)


def result_of(monkeypatch, **changes):
    answer = json.loads(json.dumps({**COMPILED, **changes}))
    monkeypatch.setattr(module, "_check_installed", lambda target: None)
    monkeypatch.setattr(module, "_compiled", lambda *_: answer)
    sizes = Sizes(100, 100, 3.0, 7, 5, 25, 50)
    return module.preflight(CONFIG, "v5e:2x2", sizes)


def test_what_is_reported(monkeypatch):
    result = result_of(monkeypatch)
    assert result["total_bytes_per_chip"] == 2**30 + 2**29 + 2**28 + 2**27
    assert result["collective_bytes_per_step"] == 3 * 2**20
    # 3 products of 100 rows with 50 items at width 8; 30 positions of the encoder.
    flops = 3 * 2 * 100 * 50 * 8 + 3 * 2 * 30 * (10 * 64 + 6 * 6 * 8)
    assert result["flops_per_step_per_chip"] == flops
    assert result["flops_per_step"] == 4 * flops
    assert result["fits"]
    text = in_words(result)
    assert "Training: 1.88 GiB" in text and "3 all-reduce of 3.0 MiB" in text
    check_fits(result)


def test_what_does_not_fit_is_named(monkeypatch):
    program = {**COMPILED["train"], "temporary_bytes": 20 * 2**30}
    result = result_of(monkeypatch, train=program)
    with pytest.raises(UserError, match=r"training .*21.38 GiB of 15.75.*f32\[100,1342177\] 512"):
        check_fits(result)


def test_the_compilers_own_message_is_read(monkeypatch):
    message = (
        "RESOURCE_EXHAUSTED: Used 24.00G of 15.75G hbm.\n\nTotal hbm usage >= 24.51G:\n"
        "\n  Largest program allocations in hbm:\n\n  1. Size: 23.84G\n"
        '     Operator: op_name="jit(steps)/while" stack_frame_id=1\n'
        "     Shape: f32[100000000,64]{0,1:T(8,128)}\n     Unpadded size: 23.84G\n"
    )
    result = result_of(monkeypatch, train={"exhausted": message})
    assert not result["fits"] and "Training does not fit" in in_words(result)
    with pytest.raises(UserError, match=r"needs more of 15.75 GiB.*f32\[100000000,64\].* 23.84G"):
        check_fits(result)


def test_a_missing_compiler_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(module, "_is_installed", lambda name: False)
    for topology, extra in (("v5e:2x2", "tpu"), ("h100", "cuda")):
        assert main(["preflight", "--topology", topology]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"mqsa-jax[{extra}]" in error


@pytest.mark.parametrize("in_batch", [False, True])
def test_sampled_losses_are_lowered_too(in_batch):
    """What they read of the items goes along: how often each is a target."""
    objective = ObjectiveConfig(
        ranking_loss="sampled", num_negatives=5, in_batch_negatives=in_batch
    )
    config = dataclasses.replace(CONFIG, objective=objective)
    sizes = Sizes.estimated(config, 1, items=30, users=100, positions=4.0, successors=2.0)
    lowered = abstract_epoch(config, DeviceLayout.of(1), sizes)
    _, losses = lowered.out_info
    assert losses.loss.shape == (sizes.steps,)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology", "h100", "--model", "graphsage"], "graph of all items"),
        (["--topology", "h100", "--model", "popular"], "counted, not trained"),
        (["--topology", "v9:2x2"], "--topology must be like"),
        (["--topology", "v5e:2x2", "--mesh", "data=3"], "--mesh data=3 does not fit 4"),
        (["--topology", "v5e:2x2", "--positions", "99"], "--positions 99 is more than"),
        ([], "topology"),
    ],
)
def test_mistakes_are_told(flags, message, capsys):
    assert main(["preflight", *flags]) == 2
    assert message in capsys.readouterr().err


def test_training_can_be_looked_at_first(monkeypatch, capsys, tmp_path):
    asked = {}

    def compiled(config, target, sizes):
        asked.update(target=target, sizes=sizes)
        return json.loads(json.dumps(COMPILED))

    monkeypatch.setattr(module, "_check_installed", lambda target: None)
    monkeypatch.setattr(module, "_compiled", compiled)
    folder = tmp_path / "run"
    flags = ["--preflight", "v5e:2x2", "--run-dir", str(folder)]
    assert train_main(flags) == 0
    assert "Training: 1.88 GiB" in capsys.readouterr().out
    assert not folder.exists()
    histories = synthetic_histories()
    assert (asked["sizes"].items, asked["sizes"].users) == (
        histories.num_items,
        histories.num_users,
    )
    assert asked["target"].num_chips == 4


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None and "MQSA_REQUIRE_LIBTPU" not in os.environ,
    reason="libtpu, of the extra `tpu`, is missing",
)


@needs_libtpu
def test_a_mesh_that_the_slice_does_not_have_is_told_in_one_line(capsys):
    flags = "--topology v5p:4x4x4 --mesh data=8,model=8 --items 1000 --users 100"
    assert main(["preflight", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert "--mesh data=8,model=8 cannot lie on a slice of 4 x 4 x 4 chips" in error
    assert len(error.strip().splitlines()) == 1


@needs_libtpu
def test_a_real_compile_for_four_tpus(tmp_path, capsys):
    path = tmp_path / "found.json"
    flags = "--topology v5e:2x2 --mesh data=2,model=2 --items 1000 --users 100 --batch-size 32"
    assert main(["preflight", *flags.split(), "--dim", "8", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["fits"] and found["chips"] == 4
    # Half of the table and of two moments, and little else.
    assert found["parameters"] < 2 * 500 * 8 * 4 + 4 * 50 * 8 * 4 < found["total_bytes_per_chip"]
    kinds = {each["kind"] for each in found["collectives"]}
    assert "all-reduce" in kinds and "all-gather" not in kinds
    assert "v5e:2x2" in capsys.readouterr().out
