"""The training loop starts an epoch before it reads the last one, and times each of them."""

import json

import pytest

from mqsa_jax.training import loop
from tests.training.run_cases import EPOCHS, train

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("patience", [2, 20])
def test_an_epoch_starts_before_the_last_one_is_read_and_none_in_vain(
    tmp_path, monkeypatch, patience
):
    """The first epoch is the best, so that a patience of 2 ends training after the third."""
    seen = []
    compile_epoch, read = loop.compile_epoch, loop._epoch_line

    def compile_told(*args):
        program = compile_epoch(*args)
        return lambda *inputs: (seen.append("start"), program(*inputs))[1]

    monkeypatch.setattr(loop, "compile_epoch", compile_told)
    monkeypatch.setattr(loop, "_epoch_line", lambda *epoch: (seen.append("read"), read(*epoch))[1])
    train(tmp_path, EPOCHS, f"--patience={patience}")
    # Epoch 3 may be the last of a patience of 2: whether a fourth comes is only known then.
    epochs = {2: 3, 20: EPOCHS}[patience]
    assert seen == ["start"] + ["start", "read"] * (epochs - 1) + ["read"]


def test_seconds_go_from_the_end_of_one_epoch_to_that_of_the_next(tmp_path, monkeypatch):
    """On a clock of its own: reading an epoch's losses takes 10 s, its validation's 100 s."""
    clock = [0.0]

    def taking(seconds, function):
        def told(*inputs):
            clock[0] += seconds
            return function(*inputs)

        return told

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loop, "_epoch_line", taking(10, loop._epoch_line))
    monkeypatch.setattr(loop, "_validation_line", taking(100, loop._validation_line))
    train(tmp_path, 3)
    written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in written] == [10, 110, 110]
