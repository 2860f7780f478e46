"""Histories of 21 users, their batches, and what the batches must hold."""

import jax
import numpy as np
import scipy.sparse

from mqsa_jax.data.batches import BatchSource
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.transitions import TransitionCounts
from tests import oracle, transition_oracle

USERS, V, T, SIZE = 21, 13, 6, 8


def random_sequences():
    """Whole histories of 3 to 11 items; three items leave nothing to train on."""
    rng = np.random.default_rng(0)
    lengths = [3, 3, 4, 11, *rng.integers(3, 12, USERS - 4)]
    sequences = [rng.integers(0, V, length).tolist() for length in lengths]
    assert {item for sequence in sequences for item in sequence} == set(range(V))
    return sequences


SEQUENCES = random_sequences()
HISTORIES = make_histories(range(USERS), SEQUENCES)
PAIRS = [oracle.training_pair(sequence[:-2], max_len=T) for sequence in SEQUENCES]
"""Inputs and targets of each user, as plain lists."""
COUNTS = transition_oracle.count_transitions([s[:-2] for s in SEQUENCES], V, max_len=T)
TRANSITIONS = TransitionCounts.from_scipy(scipy.sparse.csr_array(COUNTS))
NUM_SUCCESSORS = (COUNTS > 0).sum(1)


def source(num_shards=1, seed=4, batch_size=SIZE):
    return BatchSource(HISTORIES, TRANSITIONS, batch_size, T, seed, num_shards)


def steps(source, epoch=0, steps_per_program=10, capacity=None):
    """The batches of an epoch, one by one."""
    stacks = source.batches(epoch, steps_per_program, capacity or source.capacity())
    for stack in stacks:
        for step in range(len(stack.num_positions)):
            yield jax.tree.map(lambda leaf, step=step: leaf[step], stack)


def expected_contents(order_of_step):
    """(inputs, targets, positions) from plain lists; segment n is the n-th user of the step."""
    result = {}
    for number, user in enumerate(order_of_step):
        inputs, targets = PAIRS[user] if user >= 0 else ([], [])
        if inputs:
            result[number] = inputs, targets, list(range(T - len(inputs), T))
    return result
