"""An independent float64 NumPy oracle of MQSA-TED: plain loops, no padding, no dropout.

Every function follows its equation literally and takes a history as a plain sequence of item
indices, oldest first; nothing is shared with the package under test. Parameters are a flat mapping
of names to arrays:

* ``item_embedding`` [V, D]
* ``position_embedding`` [max_len, D], whose last row belongs to the newest item
* for each branch, ``short`` and ``long``, and block K = 0, 1, ...:
  ``BRANCH/block_K/{query_norm,attention_norm}/{scale,bias}`` [D],
  ``BRANCH/block_K/{query,key,value,ffn_in,ffn_out}/{kernel,bias}`` [D, D], [D],
  and ``BRANCH/output_norm/{scale,bias}`` [D]

Shape suffixes: T positions of one history, D width, V items.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Params = Mapping[str, np.ndarray]
History = Sequence[int]


# Building blocks


def as_float64(params: Params) -> dict[str, np.ndarray]:
    """Copies of all parameters in double precision."""
    return {name: np.array(value, np.float64) for name, value in params.items()}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """``logits_j - log sum_k exp(logits_k)`` of one vector [V]."""
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def layer_norm(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, epsilon: float = 1e-12
) -> np.ndarray:
    """``scale * (x - mean) / sqrt(variance + epsilon) + bias`` over the last axis of x [..., D]."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return scale * centred / np.sqrt(variance + epsilon) + bias


def windowed_mean(x_TD: np.ndarray, window: int) -> np.ndarray:
    """At each t the mean of rows ``max(0, t + 1 - window)`` to t, [T, D]; so fewer at the start."""
    mean_TD = np.empty(x_TD.shape, np.float64)
    for t in range(len(x_TD)):
        first = max(0, t + 1 - window)
        mean_TD[t] = x_TD[first : t + 1].mean(axis=0)
    return mean_TD


# The encoder


def attend(
    query_TD: np.ndarray, key_TD: np.ndarray, value_TD: np.ndarray, num_heads: int
) -> np.ndarray:
    """Causal attention [T, D]: ``sum_s softmax_{s<=t}(query_t . key_s / sqrt(D/H)) value_s``.

    Head h owns the h-th of ``num_heads`` consecutive slices of the last axis.
    """
    num_positions, width = query_TD.shape
    head_width = width // num_heads
    mixed_TD = np.empty((num_positions, width))
    for head in range(num_heads):
        columns = slice(head * head_width, (head + 1) * head_width)
        for t in range(num_positions):
            logits = key_TD[: t + 1, columns] @ query_TD[t, columns] / np.sqrt(head_width)
            mixed_TD[t, columns] = np.exp(log_softmax(logits)) @ value_TD[: t + 1, columns]
    return mixed_TD


def block(
    params: Params, prefix: str, x_TD: np.ndarray, *, window: int, num_heads: int
) -> np.ndarray:
    """One block of one branch, [T, D] to [T, D]; ``prefix`` is such as ``"short/block_0"``.

    ``q = LN(windowed_mean(x))``, ``o = LN(attend(q Wq + bq, x Wk + bk, x Wv + bv) + q)``,
    ``x' = o + relu(o W1 + b1) W2 + b2``.
    """

    def dense(name: str, y_TD: np.ndarray) -> np.ndarray:
        return y_TD @ params[f"{prefix}/{name}/kernel"] + params[f"{prefix}/{name}/bias"]

    def norm(name: str, y_TD: np.ndarray) -> np.ndarray:
        return layer_norm(y_TD, params[f"{prefix}/{name}/scale"], params[f"{prefix}/{name}/bias"])

    query_TD = norm("query_norm", windowed_mean(x_TD, window))
    mixed_TD = attend(dense("query", query_TD), dense("key", x_TD), dense("value", x_TD), num_heads)
    out_TD = norm("attention_norm", mixed_TD + query_TD)
    return out_TD + dense("ffn_out", np.maximum(dense("ffn_in", out_TD), 0.0))


def encode(
    params: Params,
    items: History,
    *,
    max_len: int,
    window: int,
    alpha: float,
    num_blocks: int,
    num_heads: int,
) -> np.ndarray:
    """``z = alpha z_short + (1 - alpha) z_long`` [T, D] at all positions of one input sequence.

    ``x_t = sqrt(D) E[item_t] + P[max_len - T + t]`` with t from 0, then in each branch
    ``num_blocks`` blocks and a layer norm. The short branch has window 1, the long one ``window``.

    Raises:
      ValueError: if ``items`` is empty or longer than ``max_len``.
    """
    if not 0 < len(items) <= max_len:
        raise ValueError(f"expected 1 to {max_len} items, got {len(items)}")
    params = as_float64(params)
    item_VD, position_PD = params["item_embedding"], params["position_embedding"]
    width = item_VD.shape[1]
    first_row = max_len - len(items)
    x_TD = np.stack(
        [
            np.sqrt(width) * item_VD[item] + position_PD[first_row + t]
            for t, item in enumerate(items)
        ]
    )

    branches = {}
    for branch, branch_window in (("short", 1), ("long", window)):
        y_TD = x_TD
        for k in range(num_blocks):
            y_TD = block(
                params, f"{branch}/block_{k}", y_TD, window=branch_window, num_heads=num_heads
            )
        norm = f"{branch}/output_norm"
        branches[branch] = layer_norm(y_TD, params[f"{norm}/scale"], params[f"{norm}/bias"])
    return alpha * branches["short"] + (1 - alpha) * branches["long"]


def scores(params: Params, items: History, *, max_len: int, **encoder: Any) -> np.ndarray:
    """``z_T . E_j`` [V] for all items j, after the last ``max_len`` of ``items``; none is excluded.

    ``encoder`` are the other keywords of `encode`.
    """
    z_TD = encode(params, items[-max_len:], max_len=max_len, **encoder)
    return np.asarray(params["item_embedding"], np.float64) @ z_TD[-1]


# The losses


def training_pair(history: History, *, max_len: int) -> tuple[History, History]:
    """Inputs and next-item targets, equally long, of one training history.

    Of its last ``max_len`` items the inputs are all but the newest, the targets all but the oldest:
    at most ``max_len - 1`` positions, and none for a history of one item.
    """
    kept = history[-max_len:]
    return kept[:-1], kept[1:]


def ranking_loss(
    params: Params, histories: Sequence[History], *, max_len: int, **encoder: Any
) -> float:
    """Mean of ``-log softmax([z . E, 0])[target]`` over all positions of all histories.

    The 0 is the logit of one more class, the padding's. ``encoder`` are the other keywords of
    `encode`. Without any position the loss is 0.
    """
    item_VD = np.asarray(params["item_embedding"], np.float64)
    losses = []
    for history in histories:
        inputs, targets = training_pair(history, max_len=max_len)
        if len(inputs) == 0:
            continue
        z_TD = encode(params, inputs, max_len=max_len, **encoder)
        for z_D, target in zip(z_TD, targets, strict=True):
            logits = np.append(item_VD @ z_D, 0.0)
            losses.append(-log_softmax(logits)[target])
    return float(np.mean(losses)) if losses else 0.0


def distillation_loss(
    params: Params,
    histories: Sequence[History],
    teacher_VV: np.ndarray,
    *,
    max_len: int,
    tau: float,
) -> float:
    """Mean of ``-sum_j p_T(j|i) log softmax_j(sqrt(D) E_i . E_j / tau)`` over all input items i.

    An item counts as often as it occurs. ``teacher_VV`` holds ``p_T``. Without any position the
    loss is 0.
    """
    item_VD = np.asarray(params["item_embedding"], np.float64)
    width = item_VD.shape[1]
    losses = []
    for history in histories:
        inputs, _ = training_pair(history, max_len=max_len)
        for item in inputs:
            logits_V = item_VD @ (np.sqrt(width) * item_VD[item]) / tau
            losses.append(-(teacher_VV[item] @ log_softmax(logits_V)))
    return float(np.mean(losses)) if losses else 0.0


def l2_penalty(params: Params) -> float:
    """``1/2 sum theta**2`` over all parameters."""
    return 0.5 * sum(float((value**2).sum()) for value in as_float64(params).values())


def total_loss(
    params: Params,
    histories: Sequence[History],
    teacher_VV: np.ndarray,
    *,
    max_len: int,
    lambda_kd: float,
    tau: float,
    l2: float,
    **encoder: Any,
) -> tuple[float, float, float]:
    """``(loss, loss_rec, loss_kd)``, ``loss = loss_rec + lambda_kd loss_kd + l2 1/2 sum theta**2``.

    ``histories`` are one batch; ``teacher_VV`` belongs to the whole training set. ``encoder`` are
    the other keywords of `encode`.
    """
    loss_rec = ranking_loss(params, histories, max_len=max_len, **encoder)
    loss_kd = distillation_loss(params, histories, teacher_VV, max_len=max_len, tau=tau)
    return loss_rec + lambda_kd * loss_kd + l2 * l2_penalty(params), loss_rec, loss_kd


# Gradients


def partial_derivative(
    fn: Callable[[Params], float],
    params: Params,
    name: str,
    index: tuple[int, ...],
    *,
    step: float = 1e-5,
) -> float:
    """``(fn(theta + step) - fn(theta - step)) / (2 step)`` for one entry theta of ``params``."""
    values = []
    for signed_step in (step, -step):
        moved = as_float64(params)
        moved[name][index] += signed_step
        values.append(fn(moved))
    return (values[0] - values[1]) / (2 * step)


def gradient(
    fn: Callable[[Params], float],
    params: Params,
    names: Sequence[str],
    *,
    step: float = 1e-5,
) -> dict[str, np.ndarray]:
    """`partial_derivative` for every entry of the named parameters, in the parameters' shapes."""
    result = {}
    for name in names:
        result[name] = np.empty(np.shape(params[name]))
        for index in np.ndindex(result[name].shape):
            result[name][index] = partial_derivative(fn, params, name, index, step=step)
    return result
