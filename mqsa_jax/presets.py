"""The configuration that a data set and a model start from: `configs/NAME.py`, then the model's.

A data set without a file in `configs` starts from general values, which suit tens of thousands of
users. `sized_defaults` adapts them to fewer, where an epoch would have too few steps.
"""

import math
import runpy
import typing
from pathlib import Path

from mqsa_jax.config import Config, ModelName
from mqsa_jax.data.sources import dataset_names
from mqsa_jax.grid import with_flags
from mqsa_jax.models.registry import PLUS, with_model

BATCHES_AN_EPOCH = 32
"""Wanted at least, in powers of two, within the limits below."""
SMALLEST_BATCH = 16
"""Users; smaller batches give noisy steps and take long."""
PATIENCE_STEPS = 500
"""Fewest steps without a better validation after which training stops."""
LONGEST_PATIENCE = 100
"""Epochs; limits the time that very small data take, as each epoch has fixed costs."""


def default_config(dataset: str, model: str) -> Config:
    """The defaults of a data set and model; those of a file of the user's own are general.

    Args:
      dataset: name in any case, or path of a file.
      model: a key of `MODELS`; another one is left for the parser to refuse.
    """
    name, config, plus = dataset.lower(), Config(dataset=dataset), {}
    if name in dataset_names():
        experiment = runpy.run_path(str(_configs_folder() / f"{name}.py"))
        config, plus = experiment["config"], experiment["plus"]
    if model not in typing.get_args(ModelName):
        return config
    return with_model(config, model, **(plus if model == PLUS else {}))


def sized_defaults(config: Config, num_users: int) -> Config:
    """General defaults adapted to the number of users; unchanged from about 15,400 users on.

    What counts is the number of steps: the batch is small enough for `BATCHES_AN_EPOCH`, patience
    is `PATIENCE_STEPS` at least, and the moving average spans a third of the patience at most. The
    weight of an untrained transition term is chosen on validation after training.

    Args:
      config: what `default_config` gives for a data set without a file in `configs`.
      num_users: U.
    """
    power = round(math.log2(max(num_users / BATCHES_AN_EPOCH, 1)))
    settings = config.training
    batch_size = min(max(2**power, SMALLEST_BATCH), settings.batch_size)
    steps = math.ceil(num_users / batch_size)
    patience = min(math.ceil(PATIENCE_STEPS / steps), LONGEST_PATIENCE)
    patience = max(patience, settings.patience)
    return with_flags(
        config,
        batch_size=batch_size,
        patience=patience,
        epochs=max(settings.epochs, 4 * patience),
        ema_decay=min(settings.ema_decay, max(1 - 3 / (patience * steps), 0.0)),
        choose_term_weight=config.term.term_items > 0 and config.term.term_dropout == 1,
    )


def _configs_folder() -> Path:
    """`configs` lies in the package where that is installed, and beside it in a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"
