"""Item attributes and user traits added to the float64 oracle, and small data that have some.

Shape legend: V items, of which the last `COLD` are in no history; A attributes, G traits.
"""

import dataclasses

import numpy as np

from mqsa_jax.data.attributes import Attributes
from tests import oracle, transition_oracle
from tests.data.batch_cases import COUNTS, HISTORIES, SEQUENCES, USERS, T
from tests.data.batch_cases import V as WARM

COLD = 2
V, A, G = WARM + COLD, 4, 3
ENCODER = {"window": 3, "alpha": 0.4, "num_blocks": 1, "num_heads": 2}
TAU, LAMBDA, L2 = 0.5, 0.3, 0.01


def random_lists(rng, rows, columns, power):
    """Lists of 0 to all columns, and the same as an array [rows, columns] of weights."""
    has = rng.random((rows, columns)) < 0.5
    has[0] = False
    row, column = np.nonzero(has)
    start = np.append(0, np.cumsum(has.sum(1)))
    names = tuple(f"a = {each}" for each in range(columns))
    weights = has / np.maximum(has.sum(1, keepdims=True), 1) ** power
    return Attributes(start, column.astype(np.int32), names, power), weights


_rng = np.random.default_rng(3)
ATTRIBUTES, WEIGHT_VA = random_lists(_rng, V, A, 0.5)
TRAITS, WEIGHT_UG = random_lists(_rng, USERS, G, 1.0)
ITEM_IDS = np.append(HISTORIES.item_ids, [100, 101])
DATA = dataclasses.replace(
    HISTORIES, item_ids=ITEM_IDS, num_cold=COLD, attributes=ATTRIBUTES, traits=TRAITS
)


def tables(params, side):
    """[V, D] item vectors of input and scores; cold items have the mean of the others."""
    own = params["item_embedding"].copy()
    own[WARM:] = own[:WARM].mean(0)
    whole = own + WEIGHT_VA @ params["attribute_embedding"]
    return (own if side == "score" else whole), (own if side == "input" else whole)


def user_vectors(params, items, user, side):
    """[T, D] at all positions of a history."""
    item_VD, _ = tables(params, side)
    z_TD = oracle.encode({**params, "item_embedding": item_VD}, items, max_len=T, **ENCODER)
    return z_TD + WEIGHT_UG[user] @ params["trait_embedding"]


def scores(params, items, user, side):
    """[V] after the last T items."""
    return tables(params, side)[1] @ user_vectors(params, items[-T:], user, side)[-1]


def losses(params, users, side):
    """Loss, ranking and distillation loss of a batch of users; cold items take no part."""
    params = oracle.as_float64(params)
    input_VD, score_VD = tables(params, side)
    score_VD, dim = score_VD[:WARM], input_VD.shape[1]
    teacher_VV = transition_oracle.teacher_probabilities(COUNTS, tau=TAU)
    ranking, distillation = [], []
    for user in users:
        inputs, targets = oracle.training_pair(SEQUENCES[user][:-2], max_len=T)
        if not inputs:
            continue
        user_TD = user_vectors(params, inputs, user, side)
        for user_D, item, target in zip(user_TD, inputs, targets, strict=True):
            logits = np.append(score_VD @ user_D, 0.0)
            ranking.append(-oracle.log_softmax(logits)[target])
            student = oracle.log_softmax(score_VD @ (np.sqrt(dim) * input_VD[item]) / TAU)
            distillation.append(-(teacher_VV[item] @ student))
    loss_rec, loss_kd = np.mean(ranking), np.mean(distillation)
    return loss_rec + LAMBDA * loss_kd + L2 * oracle.l2_penalty(params), loss_rec, loss_kd
