"""A split by time: what comes after a cut never reaches what is before it."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data import splits
from mqsa_jax.data.coverage import check_trainable, untrained_targets
from mqsa_jax.data.prepared import ITEMS, read_prepared
from mqsa_jax.data.transitions import training_transitions
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from tests.prepare.log_cases import (
    SECOND,
    core,
    prepared,
    random_events,
    read_back,
    write_csv,
)

VALID, TEST = "1970-01-01T00:01:40", "1970-01-01T00:03:20"
"""100 and 200 seconds."""
CUTS = {"split": "time", "valid_from": VALID, "test_from": TEST}
EVENTS = [
    *[("both", item, time) for time, item in enumerate("abcd")],
    *[("both", "e", 100), ("both", "a", 150), ("both", "b", 200), ("both", "c", 300)],
    *[("test only", item, time) for time, item in enumerate("bace")],
    *[("test only", "d", 250)],
    *[("neither", item, time) for time, item in enumerate("ced")],
    # Planted leaks: an item and a user of the future, who would be many enough to stay.
    *[("cold", item, 120 + time) for time, item in enumerate("abcde")],
    *[(user, "future", 210) for user in ("both", "test only", "neither", "cold")],
]


def split(tmp_path, events, **options):
    log = write_csv(tmp_path / "log.csv", events)
    return prepared(log, tmp_path / "out", **{"min_user": 1, "min_item": 1} | CUTS | options)


def test_targets_and_counts_of_an_example(tmp_path):
    manifest = split(tmp_path, EVENTS)
    told = manifest["split"]
    assert told["cold_users"] == 1 and told["unknown_item_events"] == 3
    assert told["valid_users"] == 1 and told["test_users"] == 2
    assert told["valid_from"] == VALID + "+00:00" and told["test_from"] == TEST + "+00:00"
    histories = read_prepared(tmp_path / "out")
    assert histories.user_ids.tolist() == ["both", "neither", "test only"]
    assert histories.item_ids.tolist() == list("abcde")
    assert histories.cuts.tolist() == [[4, 6], [3, 3], [4, 4]]
    names = histories.item_ids
    for name, users, targets, read in [
        ("valid", ["both"], ["e"], ["abcd"]),
        ("test", ["both", "test only"], ["b", "d"], ["abcdea", "bace"]),
    ]:
        own = splits.with_target(histories, name)
        assert own.user_ids.tolist() == users
        assert names[splits.targets(own, name)].tolist() == targets
        slices = splits.recent(own, name, 50)
        assert [
            "".join(names[own.items[begin:end]])
            for begin, end in zip(slices.begin, slices.end, strict=True)
        ] == read
        assert untrained_targets(histories, name, 50) == 0


def trained_on(folder):
    """Everything that training may learn from."""
    histories = read_prepared(folder)
    inputs = splits.recent(histories, "train", 50)
    items = [
        histories.items[begin:end].tolist()
        for begin, end in zip(inputs.begin, inputs.end, strict=True)
    ]
    counts = pq.read_table(folder / ITEMS).to_pylist()
    transitions = training_transitions(histories, 50)
    return (
        items,
        histories.user_ids.tolist(),
        histories.item_ids.tolist(),
        counts,
        [np.asarray(array).tolist() for array in vars(transitions).values()],
    )


@pytest.mark.parametrize("seed", range(4))
def test_what_comes_after_the_cut_changes_nothing_before_it(tmp_path, seed):
    events = random_events(seed, users=20, events=300)
    early = [event for event in events if event[2] < 1_500_000_180]
    options = {
        **{"min_user": 3, "min_item": 3},
        **{"valid_from": "2017-07-14T02:43", "test_from": "2017-07-14T02:44"},
    }
    for name, later in [("real", events), ("planted", [*early, *future(early)])]:
        (tmp_path / name).mkdir()
        split(tmp_path / name, later, **options)
    real, planted = trained_on(tmp_path / "real" / "out"), trained_on(tmp_path / "planted" / "out")
    assert real == planted
    expected = core(sorted(set(early)), 3, 3)
    assert sorted(real[1]) == sorted({user for user, _, _ in expected})
    assert sum(map(len, real[0])) == len(expected)


def future(early):
    """Items and users that would survive a core counted over all events."""
    users = {user for user, _, _ in early}
    news = [(user, f"new {item}", 1_500_000_400) for user in users for item in range(3)]
    user, item, _ = core(sorted(set(early)), 3, 3)[0]
    news += [(user, item, time) for time in (1_500_000_185, 1_500_000_250)]
    return [*news, *[("new", item, 1_500_000_200) for _, item, _ in early]]


def test_quantiles_are_those_of_the_times(tmp_path):
    events = [("u", f"i{place % 5}", 10 * place) for place in range(100)]
    manifest = split(tmp_path, events, valid_from="0.8", test_from="0.9")
    histories = read_prepared(tmp_path / "out")
    assert histories.cuts.tolist() == [[80, 90]]
    times = [time for _, time in read_back(tmp_path / "out")["u"]]
    assert manifest["split"]["test_from"].startswith("1970-01-01T00:15:00")
    assert times == [10 * place for place in range(100)] and SECOND == 10**6


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"valid_from": TEST, "test_from": VALID}, "valid_from .* must be before"),
        ({"valid_from": "yesterday"}, "valid_from must be a date .* 'yesterday'"),
        ({"test_from": "1.5"}, "test_from must be a date"),
        ({"valid_from": "1960-01-01"}, "no event is before valid_from"),
        ({"valid_from": "0.99", "test_from": "1970-01-01"}, "is not before"),
        ({"min_user": 9}, "nothing is left with min_user 9"),
        ({"split": "leave-one-out"}, "of use with split time alone"),
        ({"test_from": "1970-01-02"}, "no user has a target from test_from on"),
        ({"valid_from": "1970-01-01T00:03:19"}, "no user has a target from valid_from on"),
    ],
)
def test_cuts_that_make_no_sense(tmp_path, options, problem):
    with pytest.raises(SettingError, match=problem):
        split(tmp_path, EVENTS, **options)
    assert not (tmp_path / "out").exists()


def test_training_needs_two_items_before_the_cut(tmp_path):
    events = [("u", "a", 1), ("u", "b", 150), ("v", "b", 1), ("v", "a", 250)]
    split(tmp_path, events)
    with pytest.raises(UserError, match="none of the 2 users has 2 items before the validation"):
        check_trainable(read_prepared(tmp_path / "out"))


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_model_is_trained_and_tested_on_those_with_targets(tmp_path, num_devices):
    split(tmp_path, EVENTS)
    histories = read_prepared(tmp_path / "out")
    config = Config(
        model=ModelConfig(dim=4, max_len=5), training=TrainingConfig(batch_size=2, epochs=2)
    )
    experiment = Experiment(config, histories, DeviceLayout.of(num_devices))
    result = train(experiment, RunDirectory(tmp_path / "run"), resume=False)
    assert result["users"] == 2
    with np.load(tmp_path / "run" / "ranks.npz", allow_pickle=False) as ranks:
        assert ranks["user_ids"].tolist() == ["both", "test only"]
        assert ranks["test"].shape == (2,)
    # `both` has consumed b before the cut.
    assert np.isinf(ranks_of(experiment, "test")[0])


def ranks_of(experiment, name):
    state = experiment.initial_state()
    return experiment.evaluator(Protocol(name)).ranks(state.params, state.hparams)
