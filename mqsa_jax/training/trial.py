"""One run of a population on the host: its configuration, its history, its end."""

import dataclasses
from typing import Any

from mqsa_jax.config import Config
from mqsa_jax.runs.history import best_epoch, is_finished, with_no_better


@dataclasses.dataclass(eq=False)
class Trial:
    """A run, and what it has come to."""

    config: Config
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """A line an epoch, as in `metrics.jsonl` but without its seconds."""
    problem: str = ""
    """What was not a number, which ended the run; its best epoch is not tested then."""
    test: dict[str, float] | None = None
    """Test metrics of the best epoch, once the run has ended."""
    term_factor: float = 1.0
    """Factor of the transition term's weight that validation chose (`term_choice.py`)."""

    @property
    def best(self) -> int:
        """The best epoch so far; 0 before the first."""
        return best_epoch(self.history)

    @property
    def finished(self) -> bool:
        """Whether no epoch is to come."""
        return bool(self.problem) or self._ends_with(self.history)

    @property
    def sure_to_go_on(self) -> bool:
        """Whether an epoch comes after the next one, whatever that one brings."""
        return not (self.problem or self._ends_with(with_no_better(self.history)))

    def _ends_with(self, history: list[dict[str, Any]]) -> bool:
        settings = self.config.training
        return is_finished(history, settings.epochs, settings.patience)

    def plain(self) -> dict[str, Any]:
        """All of it as plain values."""
        values = {
            name: getattr(self, name) for name in ("history", "problem", "test", "term_factor")
        }
        return {"config": self.config.flat(), **values}

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Trial":
        """The inverse of `plain`, also for values of an older version, which lack younger flags."""
        return cls(**{**values, "config": Config.from_stored(values["config"])})
