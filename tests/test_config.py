"""The tree of hyper-parameters: ranges, and the flat form that flags and config.json share."""

import dataclasses
import math

import pytest

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from mqsa_jax.errors import UserError

COUNTS = ["dim", "num_blocks", "num_heads", "window"]
COUNTS += ["time_span", "multi_step", "batch_size", "epochs", "patience", "devices"]
COUNTS += ["term_neighbours", "term_span"]

NUMBERS = ["alpha", "dropout", "lambda_kd", "tau", "l2", "lr"]
NUMBERS += ["span_decay", "symmetric", "popularity"]


def changed(**values) -> Config:
    return Config.from_flat({**Config().flat(), **values})


def test_flat_holds_every_value_by_its_own_name_in_order():
    config = Config(
        dataset="toys",
        model=ModelConfig(dim=48, num_heads=3),
        objective=ObjectiveConfig(tau=0.7),
        training=TrainingConfig(epochs=7),
        run=RunConfig(parallel="pmap"),
    )
    parts = (config.model, config.objective, config.term, config.attributes, config.training)
    parts += (config.evaluation, config.run)
    names = ["dataset"] + [field.name for part in parts for field in dataclasses.fields(part)]
    flat = config.flat()
    assert list(flat) == names
    assert len(set(names)) == len(names)
    expected = dict(dim=48, num_heads=3, tau=0.7, epochs=7, parallel="pmap", dataset="toys")
    assert expected.items() <= flat.items()


def test_from_flat_inverts_flat():
    values = {
        name: value if value is None or isinstance(value, str | bool) else value + 1
        for name, value in Config().flat().items()
    }
    config = Config.from_flat(values)
    assert config.flat() == values
    assert Config.from_flat(config.flat()) == config
    assert config.training.lr == 1.001


@pytest.mark.parametrize("name", ["dim", "dataset", "parallel"])
def test_a_missing_key_is_named(name):
    values = Config().flat()
    del values[name]
    with pytest.raises(UserError, match=f"^unknown or missing configuration keys: {name}$"):
        Config.from_flat(values)


def test_unknown_keys_are_named():
    with pytest.raises(UserError, match="keys: beam, widht$"):
        Config.from_flat({**Config().flat(), "widht": 3, "beam": 4})


def test_the_defaults_and_the_ends_of_all_ranges_are_valid():
    Config().validate()
    for values in (
        dict(alpha=0.0, dropout=0.0, lambda_kd=0.0, l2=0.0, seed=0),
        dict(alpha=1.0, dropout=0.999, seed=2**32 - 1, devices=1),
        dict(dim=1, num_blocks=1, num_heads=1, window=1, max_len=2, time_span=1),
        dict(batch_size=1, epochs=1, patience=1, tau=1e-6, lr=1e-12),
        dict(dim=48, num_heads=3, window=10**6),
        dict(span_decay=1e-6, symmetric=0.0, popularity=0.0, multi_step=1),
        dict(span_decay=1.0, symmetric=1.0, popularity=2.0, multi_step=3),
    ):
        changed(**values).validate()


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1])
def test_counts_start_at_1(name, value):
    flag = name
    with pytest.raises(UserError, match=f"^{flag} must be at least 1, got {value}$"):
        changed(**{name: value}).validate()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_len", 1),
        ("alpha", -0.1),
        ("alpha", 1.5),
        ("dropout", -0.1),
        ("dropout", 1.0),
        ("lambda_kd", -0.1),
        ("lambda_kd", math.inf),
        ("tau", 0.0),
        ("tau", -1.0),
        ("tau", math.inf),
        ("span_decay", 0.0),
        ("span_decay", 1.1),
        ("symmetric", -0.1),
        ("symmetric", 1.1),
        ("popularity", -0.1),
        ("popularity", math.inf),
        ("l2", -1e-9),
        ("l2", math.inf),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("lr", math.inf),
        ("term_items", -1),
        ("term_weight", 0.0),
        ("term_decay", 0.0),
        ("term_dropout", 1.5),
        ("ema_decay", 1.0),
        ("id_dropout", 1.0),
        ("num_negatives", -1),
        ("gbce_calibration", 1.1),
        ("lambda_graph", -1.0),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    flag = name
    with pytest.raises(UserError, match=f"^{flag} must be .*, got {value}$".replace("+", r"\+")):
        changed(**{name: value}).validate()


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_out_of_every_range(name):
    with pytest.raises(UserError, match="got nan$"):
        changed(**{name: math.nan}).validate()


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="num_heads 3 does not divide dim 64; choose a divisor"):
        changed(dim=64, num_heads=3).validate()


def test_every_number_has_a_range():
    """Infinity is in no range; a field without a range would accept it."""
    for name, value in Config().flat().items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            with pytest.raises((UserError, OverflowError)):
                changed(**{name: -math.inf}).validate()


def test_a_file_without_a_policy_is_that_of_a_run_that_excluded_the_history():
    values = Config().stored()
    del values["exclude_seen"], values["choose_term_weight"]
    config = Config.from_stored(values)
    assert config.evaluation.exclude_seen == "history"
    assert config.term.choose_term_weight is False


@pytest.mark.parametrize(
    ("name", "value"),
    [("exclude_seen", "all"), ("dim", "64"), ("devices", 1.5), ("resume", 1), ("lr", None)],
)
def test_a_value_of_a_wrong_type_is_named(name, value):
    with pytest.raises(UserError, match=f"configuration key {name}: "):
        Config.from_stored({**Config().stored(), name: value})
