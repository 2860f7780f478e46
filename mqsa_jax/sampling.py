"""What is sampled in training, and what may not be. Without JAX, so that errors come at once."""

import dataclasses
from typing import Literal

from mqsa_jax.config import Config, ObjectiveConfig
from mqsa_jax.errors import SettingError
from mqsa_jax.models.registry import MODELS

_OPTIONS = ("num_negatives", "negatives", "in_batch_negatives", "gbce_calibration")
"""Flags that mean nothing with the full loss."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Losses over sampled items; hashable, so that it can be a static argument of `jit`."""

    ranking_loss: Literal["sampled", "gbce"] = "sampled"
    """Sampled softmax, or gBCE."""
    num_negatives: int = ObjectiveConfig.num_negatives
    """K, items drawn a step."""
    negatives: Literal["uniform", "popularity"] = "uniform"
    """How they are drawn."""
    in_batch: bool = False
    """Whether the targets of a shard are negatives of each other too."""
    calibration: float = ObjectiveConfig.gbce_calibration
    """t of gBCE."""
    lazy: bool = False
    """Whether a step updates the item vectors that it reads alone, and their moments."""

    @classmethod
    def of(cls, config: Config) -> "Sampling | None":
        """That of a configuration; None: losses over all items.

        Raises:
          SettingError: in one line, naming the settings that contradict each other.
        """
        _check(config)
        objective = config.objective
        if objective.ranking_loss == "full":
            return None
        return cls(
            ranking_loss=objective.ranking_loss,
            num_negatives=objective.num_negatives,
            negatives=objective.negatives,
            in_batch=objective.in_batch_negatives,
            calibration=objective.gbce_calibration,
            lazy=config.training.lazy_adam,
        )

    @property
    def needs_frequency(self) -> bool:
        """Whether it takes how often each item is a target."""
        return self.in_batch or self.negatives == "popularity"


def _check(config: Config) -> None:
    """Raises SettingError if settings contradict each other."""
    objective, name = config.objective, config.model.model
    if objective.ranking_loss == "full":
        _check_full(config)
        return
    loss = f"{{ranking_loss}} {objective.ranking_loss}"
    if MODELS[name].counted:
        raise SettingError(f"{{model}} {name} is counted, not trained: leave {{ranking_loss}} out")
    if MODELS[name].graph != "unused":
        raise SettingError(
            f"{{model}} {name} works on a graph of all items at every step; {loss} saves nothing "
            "there, use full"
        )
    if config.attributes.describes_items:
        raise SettingError(
            f"{{item_attributes}} changes the vectors of all items at every step; {loss} saves "
            "nothing there, use full"
        )
    if config.term.term_items and config.term.term_dropout < 1:
        raise SettingError(f"{loss} cannot train the term: use {{term_dropout}} 1, or full")
    if objective.ranking_loss == "gbce" and (
        objective.negatives != "uniform" or objective.in_batch_negatives
    ):
        raise SettingError(
            f"{loss} is of uniform negatives; leave {{negatives}} and {{in_batch_negatives}} out"
        )
    if not objective.num_negatives and not objective.in_batch_negatives:
        raise SettingError(f"{loss} needs {{num_negatives}} above 0, or {{in_batch_negatives}}")
    if config.training.lazy_adam and config.training.ema_decay:
        raise SettingError(
            "{lazy_adam} leaves most item vectors alone, a moving average none: use {ema_decay} 0"
        )


def _check_full(config: Config) -> None:
    """Raises SettingError if settings of sampled losses stand beside the full one."""
    default = Config().flat()
    for flag in _OPTIONS:
        if config.flat()[flag] != default[flag]:
            raise SettingError(f"{{{flag}}} is of sampled losses; add {{ranking_loss}} sampled")
    if config.training.lazy_adam:
        raise SettingError(
            "{lazy_adam} needs {ranking_loss} sampled or gbce: the full loss reads all item vectors"
        )
