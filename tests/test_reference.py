"""Losses, scores, gradients and Adam steps equal those of the authors' implementation.

Every `.npz` in `$MQSA_REFERENCE_DIR` (default: `tests/reference`) is computed again along the
path that training takes: histories packed into rows by `BatchSource`, `objective` and `train_step`
under jit. A result is a dictionary with the names of the file, and `check` compares one quantity:

* `input_seq`, `pred_seq`, `transition_counts`: exactly
* `loss`, `loss_rec`, `loss_kd`, `loss_over_5_adam_steps`: to 1e-5, relative
* `last_position_scores`: to 1e-4 of the user's largest absolute score. A score is a sum of products
  that may cancel, so that the error of a small score is no smaller than that of a large one.
* `grad/NAME`, `weight_after_5/NAME`: norm of the difference to 1e-4 of the norm
* `grad/*/key/bias`: to 1e-5, absolute. Up to `l2 * weight` it is zero in exact arithmetic, for a
  constant added to all keys leaves the softmax as it is; what Adam makes of its rounding errors
  means nothing, so that `weight_after_5/*/key/bias` is left out.
"""

import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig
from mqsa_jax.data import splits
from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.transitions import count_transitions
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, apply
from mqsa_jax.training.objective import objective
from mqsa_jax.training.state import init_state
from mqsa_jax.training.step import train_step

DIRECTORY = Path(os.environ.get("MQSA_REFERENCE_DIR") or Path(__file__).parent / "reference")
FILES = sorted(DIRECTORY.glob("*.npz"))
EXACT = ("input_seq", "pred_seq", "transition_counts")
LOSSES = ("loss", "loss_rec", "loss_kd", "loss_over_5_adam_steps")
NOT_COMPARED = ("config", "train_histories")


# The checks


def check_exactly(expected, actual) -> None:
    np.testing.assert_array_equal(actual, expected)


def check_losses(expected, actual) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=0)


def check_scores(expected_UV, actual_UV) -> None:
    error_U = np.abs(actual_UV - expected_UV).max(axis=1)
    assert (error_U <= 1e-4 * np.abs(expected_UV).max(axis=1)).all(), error_U


def check_norm(expected, actual) -> None:
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= 1e-4, f"relative error {error:.1e} of the norm"


def check_key_bias_gradient(expected, actual) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def check(name: str, reference, result) -> None:
    """Compares the quantity `name` of two mappings; AssertionError unless they agree."""
    expected = np.asarray(reference[name], np.float64)
    actual = np.asarray(result[name], np.float64)
    assert actual.shape == expected.shape
    if name in EXACT:
        check_exactly(expected, actual)
    elif name in LOSSES:
        check_losses(expected, actual)
    elif name == "last_position_scores":
        check_scores(expected, actual)
    elif name.startswith("grad/") and name.endswith("/key/bias"):
        check_key_bias_gradient(expected, actual)
    else:
        check_norm(expected, actual)


def is_compared(name: str) -> bool:
    if name in NOT_COMPARED or name.startswith("weight/"):
        return False
    return not (name.startswith("weight_after_5/") and name.endswith("/key/bias"))


# The same quantities by this package


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def with_held_out_items(rows: np.ndarray, num_items: int) -> Histories:
    """Whole histories, with two more items each, as training leaves out the last two."""
    sequences = [np.append(row[row >= 0], [0, 0]).astype(np.int32) for row in rows]
    lengths = [len(sequence) for sequence in sequences]
    return Histories(
        items=np.concatenate(sequences),
        offsets=np.cumsum([0, *lengths]),
        user_ids=np.arange(len(rows)) + 1,
        item_ids=np.arange(num_items) + 1,
    )


def configuration(reference, num_users: int) -> tuple[Config, int]:
    given = json.loads(str(reference["config"]))
    assert given["adam"] == {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
    model = ModelConfig(
        dim=given["dim"],
        num_blocks=given["num_block"],
        num_heads=given["num_head"],
        window=given["L"],
        alpha=given["alpha"],
        dropout=0.0,
        max_len=given["max_len"],
    )
    weights = ObjectiveConfig(
        lambda_kd=given["lambda_kd"], tau=given["tau"], l2=given["l2_reg"], time_span=1
    )
    training = TrainingConfig(lr=given["lr"], batch_size=num_users)
    return Config(model=model, objective=weights, training=training), given["num_item"]


def named(prefix: str, tree) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {f"{prefix}/{name}": np.asarray(value) for name, value in flat.items()}


def parameters(reference):
    flat = {
        name.removeprefix("weight/"): jnp.asarray(value)
        for name, value in reference.items()
        if name.startswith("weight/")
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def one_batch(histories: Histories, counts, max_len: int):
    """All users as one packed batch, and the user of each segment."""
    users = histories.num_users
    source = BatchSource(histories, counts, users, max_len, seed=0, num_shards=1)
    (stack,) = source.batches(epoch=0, steps_per_program=1, capacity=source.capacity())
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), stack), source.order(0)[0]


def unpacked(values_SRT, batch, user_of_segment, fill):
    """[users, T] aligned right, from packed rows [S, R, T]."""
    segment = np.asarray(batch.inputs.segment_ids)
    out = np.full((len(user_of_segment), segment.shape[-1]), fill)
    real = segment >= 0
    index = (user_of_segment[segment[real]], np.asarray(batch.inputs.position)[real])
    out[index] = np.asarray(values_SRT)[real]
    return out


def compiled_step(recommender: Recommender, batch):
    """A training step, and with it the gradient and the scores before it."""
    key = jax.random.key(0)

    @jax.jit
    def step(state):
        fixed = {"recommender": recommender}
        step_key = jax.random.fold_in(key, state.step)
        _, gradient = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch, step_key, hparams=state.hparams, **fixed
        )
        window, alpha = state.hparams.window, state.hparams.alpha
        user_SRTD = apply(recommender, state.params, batch.inputs, window=window, alpha=alpha)
        score_SRTV = user_SRTD @ state.params["item_embedding"].T
        return *train_step(state, batch, key, **fixed), gradient, score_SRTV

    return step


@functools.cache
def compute(path: Path, products: str = "xla") -> dict[str, np.ndarray]:
    """Every compared quantity of a file, by name; `products` as the fixture `product_path` is."""
    del products
    reference = load(path)
    rows = reference["train_histories"]
    config, num_items = configuration(reference, len(rows))
    max_len = config.model.max_len
    histories = with_held_out_items(rows, num_items)
    segment_ids_N, source_N = splits.recent(histories, "train", max_len).flat_index()
    counts = jax.jit(count_transitions, static_argnums=2)(
        jnp.asarray(histories.items[source_N]), jnp.asarray(segment_ids_N, jnp.int32), num_items
    ).trimmed()
    batch, user_of_segment = one_batch(histories, counts, max_len)
    rows_used = (np.asarray(batch.inputs.segment_ids) >= 0).any(-1).sum()
    assert rows_used < len(rows), "rows must take several histories for packing to be tested"
    recommender, hparams = Recommender.of(config, num_items), HParams.of(config)
    state = jax.jit(lambda: init_state(recommender, hparams, seed=0))()
    params = parameters(reference)
    assert jax.tree.structure(params) == jax.tree.structure(state.params)
    step = compiled_step(recommender, batch)
    state, losses, gradient, score_SRTV = step(state.replace(params=params))
    newest = (np.asarray(batch.inputs.segment_ids) >= 0) & (batch.inputs.position == max_len - 1)
    score_UV = np.empty((len(rows), num_items))
    score_UV[user_of_segment[np.asarray(batch.inputs.segment_ids)[newest]]] = score_SRTV[newest]
    loss_of_steps = [losses.loss]
    for _ in range(4):
        state, later, _, _ = step(state)
        loss_of_steps.append(later.loss)
    return {
        "input_seq": unpacked(batch.inputs.item, batch, user_of_segment, num_items),
        "pred_seq": unpacked(batch.target, batch, user_of_segment, num_items),
        "transition_counts": counts.to_scipy().toarray(),
        "loss": losses.loss,
        "loss_rec": losses.loss_rec,
        "loss_kd": losses.loss_kd,
        "last_position_scores": score_UV,
        "loss_over_5_adam_steps": np.array(loss_of_steps),
        **named("grad", gradient),
        **named("weight_after_5", state.params),
    }


# The tests


def test_reference_vectors_exist():
    assert FILES, f"no *.npz in {DIRECTORY.absolute()}: nothing was compared with the authors' code"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(path, name, id=f"{path.stem}-{name}")
        for path in FILES
        for name in load(path)
        if is_compared(name)
    ],
)
def test_equals_the_authors_code(path, name, product_path):
    check(name, load(path), compute(path, product_path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_quantity_is_left_out(path):
    compared = {name for name in load(path) if is_compared(name)}
    biases = {name for name in compute(path) if not is_compared(name)}
    assert compared | biases == compute(path).keys()
    assert all(name.endswith("/key/bias") for name in biases)
    assert {*EXACT, *LOSSES, "last_position_scores"} <= compared


CHANGES = {
    "input_seq": 1,
    "pred_seq": 1,
    "transition_counts": 1,
    "loss": 1e-4,
    "loss_rec": 1e-4,
    "loss_kd": 1e-4,
    "loss_over_5_adam_steps": 1e-4,
    "last_position_scores": 1e-3,
    "grad/item_embedding": 1e-3,
    "grad/position_embedding": 1e-3,
    "grad/long/block_0/query/kernel": 1e-3,
    "grad/long/block_0/key/bias": 1e-4,
    "weight_after_5/item_embedding": 1e-3,
    "weight_after_5/short/block_0/ffn_in/bias": 1e-3,
}
"""What is added to one number of a quantity: as it stands to whole numbers and to the gradient of a
key's bias, else in units of the quantity's norm."""


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_number_is_noticed(name, tmp_path):
    reference = load(FILES[0])
    changed = {key: value.copy() for key, value in reference.items()}
    scale = np.linalg.norm(changed[name]) if name not in EXACT else 1
    scale = 1 if name.endswith("/key/bias") else scale
    changed[name].flat[-1] += CHANGES[name] * scale
    np.savez(tmp_path / "changed.npz", **changed)
    changed = load(tmp_path / "changed.npz")
    check(name, reference, compute(FILES[0]))
    with pytest.raises(AssertionError):
        check(name, changed, compute(FILES[0]))


@pytest.mark.parametrize("name", CHANGES)
def test_a_result_that_is_no_number_or_of_another_shape_is_noticed(name):
    reference, result = load(FILES[0]), dict(compute(FILES[0]))
    result[name] = np.full(np.shape(result[name]), np.nan)
    with pytest.raises(AssertionError):
        check(name, reference, result)
    result[name] = np.asarray(compute(FILES[0])[name])[None]
    with pytest.raises(AssertionError):
        check(name, reference, result)
