"""The exported program: what processes without this package compute with it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from safetensors.numpy import load_file

from mqsa_jax.export.program import exported_program
from mqsa_jax.export.tensors import counted_tensors, trained_tensors
from mqsa_jax.extras import MODULES
from mqsa_jax.inference.loaded_run import CountedRun
from tests.export.models import HISTORIES, MAX_LEN, NAMES, NUM_ITEMS, rows_of

TOLERANCE = 1e-5


def tensors_of(run):
    return counted_tensors(run) if isinstance(run, CountedRun) else trained_tensors(run)


def run_alone(program: str, *arguments: str) -> None:
    """Runs Python where neither this package nor the checkout is on the path."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments],
        env=given | {"JAX_NUM_CPU_DEVICES": "1"},
        cwd=Path(arguments[0]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_code_of_the_card_gives_the_scores_with_jax_alone(models, exports, tmp_path):
    np.save(tmp_path / "history.npy", rows_of(HISTORIES))
    program = """
import importlib.util, os, sys
import numpy as np
assert importlib.util.find_spec("mqsa_jax") is None
folder, out, *names = sys.argv[1:]
for name in names:
    os.chdir(os.path.join(folder, name))
    code = open("README.md").read().split("```python\\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if not line.startswith("history =")]
    known = {"history": np.load(os.path.join(out, "history.npy"))}
    exec("\\n".join(lines), known)
    np.save(os.path.join(out, name), known["scores"])
"""
    run_alone(program, str(exports), str(tmp_path), *NAMES)
    for name in NAMES:
        expected, actual = models[name].score(HISTORIES), np.load(tmp_path / f"{name}.npy")
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=TOLERANCE, err_msg=name)
        assert np.ptp(expected) > 0.1 * scale


@pytest.mark.parametrize("name", ["mqsa-ted-plus", "transition-paths"])
def test_the_program_is_for_any_platform_and_any_sizes(exports, name):
    tensors = load_file(exports / name / "model.safetensors")
    program = jax.export.deserialize((exports / name / "model.stablehlo").read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    history = program.in_avals[-1]
    assert history.dtype == np.int32 and not any(isinstance(n, int) for n in history.shape)
    # Two more columns of padding change nothing, nor do items before the last that are read.
    (narrow,), (wide,), (long,) = (
        jax.tree.leaves(program.call(tensors, row)[key])
        for key in ["user_vector" if name == "mqsa-ted-plus" else "score"]
        for row in (
            rows_of([[10, 20, 30, 40, 50, 60]]),
            rows_of([[10, 20, 30, 40, 50, 60]], width=MAX_LEN + 2),
            rows_of([[300, 290, 10, 20, 30, 40, 50, 60]]),
        )
    )
    np.testing.assert_allclose(wide, narrow, rtol=1e-6)
    np.testing.assert_allclose(long, narrow, rtol=1e-6)


@pytest.mark.parametrize("name", ["mqsa-ted", "gru4rec", "transition-paths", "popular"])
def test_what_is_no_history_gives_nan(models, name):
    program = exported_program(models[name])
    history = np.array(
        [[-1, 1, 2], [-1, -1, -1], [1, -1, 2], [1, 2, -1], [1, 2, NUM_ITEMS]], np.int32
    )
    outputs = jax.jit(program)(tensors_of(models[name]), history)
    ((value,),) = [[outputs[key] for key in ("user_vector", "score") if key in outputs]]
    assert np.isnan(value).all(-1).tolist() == [False, True, True, True, True]
    assert not np.isnan(value[0]).any()


def test_a_term_scores_what_followed_the_latest_items(models):
    """By visible arithmetic: the weight of an entry is `weight decay^k M[recent item k, j]`."""
    run = models["mqsa-ted-plus"]
    outputs = jax.jit(exported_program(run))(tensors_of(run), np.array([[3, 7]], np.int32))
    neighbours, term = run.relations.neighbours, run.config.term
    expected = np.zeros(NUM_ITEMS)
    for back, item in enumerate((7, 3)):
        for j, weight in zip(neighbours.item[item], neighbours.weight[item], strict=True):
            if int(j) not in (3, 7):
                factor = np.exp(run.params["transition_term"]["log_weight"][back])
                expected[int(j)] += factor * weight
    actual = np.zeros(NUM_ITEMS)
    np.add.at(actual, outputs["term_item"][0], outputs["term_score"][0])
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert actual.any() and term.term_items == 2


ONNX_NAMES = ("mqsa-ted", "mqsa-ted-plus", "sasrec", "gru4rec", "fmlp", "transition-paths")


@pytest.mark.skipif(
    "MQSA_REQUIRE_EXPORTS" not in os.environ
    and any(importlib.util.find_spec(name) is None for name in MODULES["onnx"]),
    reason="needs the extra onnx",
)
def test_onnx_runtime_alone_gives_the_scores(models, tmp_path):
    from mqsa_jax.export.onnx_program import write_onnx

    for name in ONNX_NAMES:
        program, tensors = exported_program(models[name]), tensors_of(models[name])
        facts = write_onnx(tmp_path / f"{name}.onnx", program, tensors, NUM_ITEMS, MAX_LEN)
        assert facts["largest_difference"] <= TOLERANCE
    np.save(tmp_path / "history.npy", rows_of(HISTORIES))
    program = """
import sys
import numpy as np
import onnxruntime
folder, *names = sys.argv[1:]
for name in names:
    session = onnxruntime.InferenceSession(f"{name}.onnx")
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"history": np.load("history.npy")})
    np.savez(f"{name}.npz", **dict(zip(names, outputs)))
assert "jax" not in sys.modules and "mqsa_jax" not in sys.modules
"""
    run_alone(program, str(tmp_path), *ONNX_NAMES)
    for name in ONNX_NAMES:
        outputs, expected = np.load(tmp_path / f"{name}.npz"), models[name].score(HISTORIES)
        if "score" in outputs:
            actual = outputs["score"]
        else:
            actual = outputs["user_vector"] @ np.asarray(models[name].item_vectors()).T
        if "term_item" in outputs:
            row = np.arange(len(actual))[:, None]
            np.add.at(actual, (row, outputs["term_item"]), outputs["term_score"])
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=TOLERANCE, err_msg=name)


def test_the_card_says_what_the_run_says(models, exports):
    card = (exports / "mqsa-ted-plus" / "README.md").read_text()
    header = card.split("---\n")[1]
    assert "library_name: mqsa-jax" in header and "license" not in header
    assert '- type: "HR@5"\n      value: 0.250000' in header
    assert "# MQSA-TED+ on shop.txt" in card and "/home/me" not in card
    assert "| NDCG@5 | 0.1250 | 0.3750 |" in card
    assert models["mqsa-ted-plus"].data_fingerprint in card
    assert re.search(r"until \d{4}-\d\d-\d\d|jax \d", card)
