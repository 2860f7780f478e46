"""How fast a model ranks: all users at once, and one user's top 20 at a time.

    python -m benchmarks.inference [--dataset toys] [--data-dir DIR]

The weights are those of the first step: speed does not hang on their values.
"""

import argparse
import statistics
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.measure import load_experiment, report, seconds
from mqsa_jax.data import splits
from mqsa_jax.data.histories import Histories
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.lists import TrainedLists
from mqsa_jax.inference.recommend import KnownUsers, lists_of_blocks
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Params, Recommender, apply
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.state import TrainState

TOP = 20
RANKINGS = 7
"""Rankings of all users that are timed."""
CALLS = 1_000
"""Calls for one user that are timed: ten lie above the 99th percentile."""


def top_items(
    params: Params, hparams: HParams, history: Sequences, *, recommender: Recommender
) -> tuple[Float[Array, " K"], Int[Array, " K"]]:
    """Scores and indices of the best 20 items for one history [1, T], its own items left out.

    Args:
      params: of the model.
      hparams: window and alpha are read.
      history: the newest item at T - 1, padding before the oldest.
      recommender: the model.
    """
    user_1TD = apply(recommender, params, history, window=hparams.window, alpha=hparams.alpha)
    score_V = params["item_embedding"] @ user_1TD[0, -1]
    own_T = jnp.where(history.segment_ids[0] >= 0, history.item[0], recommender.num_items)
    score_V = score_V.at[own_T].set(-jnp.inf, mode="drop")
    return jax.lax.top_k(score_V, min(TOP, recommender.num_items))


def one_history(histories: Histories, user: int, max_len: int) -> Sequences:
    """What the model reads of a user for the test, alone in a row: NumPy arrays [1, T]."""
    kept = splits.recent(histories, "test", max_len)
    items = histories.items[kept.begin[user] : kept.end[user]]
    return Sequences.of([items], max_len)


def time_full_ranking(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """Test users ranked against all items but those seen, as `eval.py` does it."""
    evaluator = experiment.evaluator(Protocol("test"))
    times = seconds(lambda: evaluator.ranks(state.params, state.hparams), RANKINGS)
    median = statistics.median(times)
    users = experiment.histories.num_users
    return {
        "what": "full ranking",
        "users": users,
        "items": experiment.histories.num_items,
        "seconds": median,
        "users_per_s": users / median,
    }


def time_lists(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """Lists of all test users, packed and computed, as `recommend --all` makes them."""
    histories, recommender = experiment.histories, experiment.recommender
    relations = experiment.relations()
    maker = TrainedLists(
        recommender, state.params, state.hparams, relations, TOP, layout=experiment.layout
    )
    known = KnownUsers(histories, recommender.max_len, Protocol("test"), held_out=True)
    users, size = np.arange(histories.num_users), maker.block_users

    def make() -> None:
        blocks = (
            (None, known.queries(users[begin : begin + size]))
            for begin in range(0, len(users), size)
        )
        for _ in lists_of_blocks(maker, blocks):
            pass

    median = statistics.median(seconds(make, RANKINGS))
    return {
        "what": f"top {TOP}, all users",
        "users": histories.num_users,
        "items": histories.num_items,
        "seconds": median,
        "users_per_s": histories.num_users / median,
    }


def time_one_user(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """One history on the host to its top 20 on the host, user after user."""
    histories, recommender = experiment.histories, experiment.recommender
    program = jax.jit(partial(top_items, recommender=recommender))
    # One more user for the call that compiles and is not counted.
    users = np.random.default_rng(0).permutation(histories.num_users)
    users = np.resize(users, CALLS + 1)
    waiting = iter([one_history(histories, user, recommender.max_len) for user in users])
    times = seconds(
        lambda: jax.device_get(program(state.params, state.hparams, next(waiting))), CALLS
    )
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "what": f"top {TOP}, one user",
        "users": min(CALLS, histories.num_users),
        "items": histories.num_items,
        "calls": CALLS,
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
    }


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="toys", help="name or file, as for train.py")
    parser.add_argument("--data-dir", help="folder of the data files")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.dataset, arguments.data_dir)
    state = experiment.initial_state()
    measures = (time_full_ranking, time_lists, time_one_user)
    rows = [measure(experiment, state) for measure in measures]
    report("inference", rows, dataset=arguments.dataset, split="test", exclude_seen="history")


if __name__ == "__main__":
    main()
