"""The configuration that a data set and a model start from: `configs/NAME.py`, then the model's."""

import runpy
import typing
from pathlib import Path

from mqsa_jax.config import Config, ModelName
from mqsa_jax.data.sources import dataset_names
from mqsa_jax.models.registry import PLUS, with_model


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


def _configs_folder() -> Path:
    """`configs` lies in the package where that is installed, and beside it in a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"
