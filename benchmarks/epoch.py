"""Seconds of a training epoch, beside a dense baseline and the floor that matrix products set.

python -m benchmarks.epoch [--dataset toys] [--data-dir DIR] [--precision bfloat16]

The floor is the time of the matrix products of the two losses, three each, `6 × 2 · N · D · V` flop
with N the epoch's real positions, at the rate that NumPy reaches here for 2048³. Beside it stands
the time of the same products at NumPy's rate for their own shapes, long and thin. The baseline does
what the authors' code does: every one of the T positions of every user, logits kept whole, a dense
teacher. It is timed for a few steps, since an epoch of it takes minutes.
"""

import dataclasses
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from benchmarks.measure import (
    Product,
    load_experiment,
    matmul_gflops,
    one_call,
    peak_memory,
    report,
    seconds,
)
from mqsa_jax.data import splits
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.losses.teacher import teacher_probabilities, transition_teacher
from mqsa_jax.models.recommender import apply
from mqsa_jax.ops.chunk_loop import chunk_rows
from mqsa_jax.ops.products import Precision
from mqsa_jax.training.epoch import compile_epoch
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import STEPS_PER_PROGRAM
from mqsa_jax.training.optimizer import TF_ADAM
from mqsa_jax.training.state import TrainState, run_key


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    dataset: str = "toys"
    """A data set's name, or the path of a file `user item item ...`."""
    data_dir: str | None = None
    """Folder of the data files (default: as in training)."""
    precision: Precision = "float32"
    """Of the matrix products."""
    epochs: int = 5
    """Epochs that count, after one that does not."""
    dense_steps: int = 2
    """Steps of the dense baseline that count, after one that does not; 0 leaves it out."""


def own_epoch(experiment: Experiment, epochs: int) -> dict[str, float]:
    """Seconds of the project's own epoch, of packing it on the host, and of its validation."""
    relations = experiment.relations()
    source = experiment.batch_source()
    capacity = source.capacity()
    began = time.perf_counter()
    stacks = list(source.batches(0, STEPS_PER_PROGRAM, capacity))
    packing = time.perf_counter() - began
    program = compile_epoch(experiment.recommender, experiment.layout)
    key = experiment.layout.replicate(run_key(experiment.config.training.seed))

    def start_epoch(state: TrainState) -> TrainState:
        for batches in stacks:
            state, _ = program(state, batches, key, relations)
        return state

    state = jax.block_until_ready(start_epoch(experiment.initial_state()))
    times = [one_call(partial(start_epoch, state)) for _ in range(epochs)]
    evaluator = experiment.evaluator(Protocol("valid"))
    return {
        "seconds": statistics.median(times),
        "seconds_least": min(times),
        "packing": packing,
        "validation": statistics.median(
            seconds(lambda: evaluator.ranks(state.params, state.hparams), 3)
        ),
        "positions": float(sum(stack.num_positions.sum() for stack in stacks)),
        "peak_mib": peak_memory(lambda: start_epoch(state)) / 2**20,
    }


def chunk_products(experiment: Experiment) -> list[Product]:
    """The three products of one chunk of rows: its logits, gradients of its rows, of the table."""
    items, dim = experiment.histories.num_items, experiment.recommender.dim
    config = experiment.config.training
    platform = experiment.layout.platform
    rows = chunk_rows(config.batch_size * experiment.config.model.max_len, items, platform)
    return [(rows, dim, items), (rows, items, dim), (dim, rows, items)]


def dense_batch(experiment: Experiment) -> tuple[Sequences, np.ndarray]:
    """The first step's users, a row each, padded on the left to T; inputs and targets [B, T]."""
    histories, length = experiment.histories, experiment.config.model.max_len
    users = np.arange(min(experiment.config.training.batch_size, histories.num_users))
    inputs = splits.training_inputs(histories, length)[users]
    shape = (len(users), length)
    item, target = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    segment = np.full(shape, -1, np.int32)
    for row, (begin, end) in enumerate(zip(inputs.begin, inputs.end, strict=True)):
        if end > begin:
            item[row, begin - end :] = histories.items[begin:end]
            target[row, begin - end :] = histories.items[begin + 1 : end + 1]
            segment[row, begin - end :] = row
    position = np.broadcast_to(np.arange(length, dtype=np.int32), shape)
    return Sequences(item, position, segment), target


def dense_objective(params, inputs, target, teacher_VV, key, *, experiment, hparams):
    """The combined objective with whole logits at all T positions and dense soft labels."""
    encoder_key, student_key = jax.random.split(key)
    user_BTD = apply(
        experiment.recommender,
        params,
        inputs,
        window=hparams.window,
        alpha=hparams.alpha,
        dropout=hparams.dropout,
        key=encoder_key,
    )
    item_VD = params["item_embedding"]
    where_BT = inputs.segment_ids >= 0
    logits_BTV = user_BTD @ item_VD.T
    padding_BT1 = jnp.zeros_like(logits_BTV[..., :1])
    log_p_BTV = jax.nn.log_softmax(jnp.concatenate([logits_BTV, padding_BT1], axis=-1))
    loss_rec_BT = -jnp.take_along_axis(log_p_BTV, target[..., None], axis=-1)[..., 0]
    student_BTD = experiment.recommender.dim**0.5 * item_VD[inputs.item]
    keep_BTD = jax.random.bernoulli(student_key, 1 - hparams.dropout, student_BTD.shape)
    student_BTD *= keep_BTD / (1 - hparams.dropout)
    log_q_BTV = jax.nn.log_softmax(student_BTD @ item_VD.T / hparams.tau)
    loss_kd_BT = -(teacher_VV[inputs.item] * log_q_BTV).sum(-1)
    squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
    loss_BT = loss_rec_BT + hparams.lambda_kd * loss_kd_BT
    return loss_BT.mean(where=where_BT) + hparams.l2 / 2 * squares


def dense_epoch(experiment: Experiment, steps: int) -> dict[str, float]:
    """Seconds of an epoch of the dense baseline, from those of a step."""
    state = experiment.initial_state()
    teacher = transition_teacher(experiment.transition_counts, state.hparams.tau)
    teacher_VV = jax.jit(teacher_probabilities)(teacher)
    inputs, target = jax.device_put(dense_batch(experiment))
    objective = partial(dense_objective, experiment=experiment, hparams=state.hparams)

    @jax.jit
    def step(state: TrainState, key, teacher_VV):
        gradient = jax.grad(objective)(state.params, inputs, target, teacher_VV, key)
        update, opt_state = TF_ADAM.update(
            gradient, state.opt_state, learning_rate=state.hparams.lr
        )
        params = optax.apply_updates(state.params, update)
        return state.replace(params=params, opt_state=opt_state, step=state.step + 1)

    def run_step():
        return step(state, run_key(0), teacher_VV)

    num_steps = -(-experiment.histories.num_users // len(target))
    times = seconds(run_step, steps)
    return {
        "seconds": statistics.median(times) * num_steps,
        "seconds_least": min(times) * num_steps,
        "peak_mib": peak_memory(run_step) / 2**20,
    }


def main(options: Options) -> None:
    """Measures and reports."""
    experiment = load_experiment(options.dataset, options.data_dir, options.precision)
    rates = [matmul_gflops()]
    own = own_epoch(experiment, options.epochs)
    rates.append(matmul_gflops())
    shaped = matmul_gflops(chunk_products(experiment), repeats=31)
    flop = 12 * own["positions"] * experiment.recommender.dim * experiment.histories.num_items
    floor = flop / statistics.mean(rates) / 1e9
    measured = {"mqsa_jax": own}
    if options.dense_steps:
        measured["dense baseline"] = dense_epoch(experiment, options.dense_steps)
    rows = [
        {
            "program": name,
            "seconds": times["seconds"],
            "seconds_least": times["seconds_least"],
            "positions_per_second": own["positions"] / times["seconds"],
            "peak_mib": times["peak_mib"],
            "gflops": flop / times["seconds"] / 1e9,
            "times_floor": times["seconds"] / floor,
            "times_mqsa_jax": times["seconds"] / own["seconds"],
        }
        for name, times in measured.items()
    ]
    report(
        "epoch" if options.precision == "float32" else "epoch_bfloat16",
        rows,
        options.dataset,
        precision=options.precision,
        positions=own["positions"],
        matmul_gflops=rates,
        floor_seconds=floor,
        own_shapes_gflops=shaped,
        own_shapes_seconds=flop / shaped / 1e9,
        packing_seconds=own["packing"],
        validation_seconds=own["validation"],
        epochs=options.epochs,
        dense_steps=options.dense_steps,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
