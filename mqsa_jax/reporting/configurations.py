"""Runs grouped by configuration: the rows of the tables, their names and what they compare with."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mqsa_jax.models.registry import MODELS
from mqsa_jax.reporting.results import FULL_MODEL, Run, as_flags, model_title


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """The runs of one configuration, one a seed: a row of the tables."""

    runs: list[Run]
    flags: str
    """Flags that tell it from other configurations of its model."""
    tested: str = ""
    """The protocol of the test, if it is not that of training."""

    @property
    def model(self) -> str:
        """Key of `MODELS`."""
        return self.runs[0].model

    @property
    def counted(self) -> bool:
        """Whether the model is counted instead of trained."""
        return self.model in MODELS and MODELS[self.model].counted

    @property
    def key(self) -> str:
        """Name of its first run, which identifies it in kept files."""
        return self.runs[0].name

    @property
    def protocol(self) -> str:
        """Which items the test left out as seen."""
        return self.runs[0].protocol

    @property
    def label(self) -> str:
        """Title of the model and flags, as plain text."""
        return " ".join(part for part in (model_title(self.model), self.flags, self._test) if part)

    @property
    def cell(self) -> str:
        """The label as Markdown."""
        flags = self.flags and f"`{self.flags}`"
        return " ".join(part for part in (model_title(self.model), flags, self._test) if part)

    @property
    def _test(self) -> str:
        return self.tested and f"(tested with {self.tested})"

    @property
    def seeds(self) -> str:
        """Number of seeds; a counted model has none."""
        count = len(self.runs)
        return "counted" if self.counted else f"{count} seed{'s' if count > 1 else ''}"


def common_settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Settings other than the defaults that all trained models of a data set share."""
    trained = [run for run in runs if run.model not in MODELS or not MODELS[run.model].counted]
    shared = dict(trained[0].differs) if trained else {}
    return {
        name: value
        for name, value in shared.items()
        if all(run.differs.get(name) == value for run in trained)
    }


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The configurations of a data set, in the order of the tables."""
    common = common_settings(runs)
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.model, run.settings, run.protocol), []).append(run)
    groups = []
    for members in found.values():
        first = members[0]
        own = {n: v for n, v in first.differs.items() if n not in common or common[n] != v}
        tested = "" if first.protocol == first.config["exclude_seen"] else first.protocol
        groups.append(Group(members, as_flags(own, with_files=False), tested))
    return groups


def reference_of(group: Group, groups: Sequence[Group]) -> Group:
    """The configuration that `group` is compared with: the same protocol, MQSA-TED if there is one.

    Of several, the one with the fewest settings that are not defaults, then with most seeds.
    """
    alike = [other for other in groups if other.protocol == group.protocol]
    full = [other for other in alike if other.model == FULL_MODEL]
    trained = [other for other in alike if not other.counted]
    return min(
        full or trained[:1] or alike, key=lambda g: (len(g.runs[0].differs), -len(g.runs), g.key)
    )
