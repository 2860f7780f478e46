"""Settings of item attributes and user traits. Without JAX, so that errors come at once."""

import dataclasses
import os
from typing import Literal

from mqsa_jax.errors import SettingError
from mqsa_jax.fields import BelowOne, Count, Fraction

AttributeSide = Literal["both", "input", "score"]
"""Which item vectors attributes are added to: those that are read, those that are scored, both."""
FILES = ("item_attributes", "user_traits")
"""Settings that name files, whose content is part of what a run reads."""
_OF_ITEMS = ("attribute_columns", "attribute_side", "id_dropout", "cold_items")
"""Settings that say nothing without `item_attributes`."""
_OF_EITHER = ("attribute_bins", "attribute_power")
"""Settings that say nothing without `item_attributes` or `user_traits`."""


@dataclasses.dataclass(frozen=True)
class AttributesConfig:
    """What is known of items and users beside the histories (docs/attributes.md)."""

    item_attributes: str | None = None
    """File of the items' attributes: JSON {item: [attribute, ...]}, JSON lines, CSV or Parquet."""
    user_traits: str | None = None
    """File of the users' traits, in the same formats."""
    attribute_columns: str | None = None
    """Columns of --item-attributes to read, with commas between (default: all but the item's)."""
    trait_columns: str | None = None
    """Columns of --user-traits to read, with commas between (default: all but the user's)."""
    attribute_bins: Count = 10
    """Bins that decimal numbers are cut into, by quantiles of the items or users that train."""
    attribute_side: AttributeSide = "both"
    """Item vectors that attributes are added to: those read, those scored, or both."""
    attribute_power: Fraction = 0.5
    """Vectors of attributes are summed and divided by their number to this power; 1: the mean."""
    id_dropout: BelowOne = 0.0
    """Probability that an item has the mean of all in place of its own vector, in a step."""
    cold_items: bool = False
    """Recommend the items of --item-attributes that no history holds, too."""

    @property
    def describes_users(self) -> bool:
        """Whether users have traits."""
        return self.user_traits is not None

    @property
    def describes_items(self) -> bool:
        """Whether items have attributes."""
        return self.item_attributes is not None

    def with_full_paths(self) -> "AttributesConfig":
        """The same with full paths of the files."""
        full = {
            flag: os.path.abspath(path)
            for flag in FILES
            if (path := getattr(self, flag)) is not None
        }
        return dataclasses.replace(self, **full)

    def moved(self, *paths: str | None) -> "AttributesConfig":
        """The same with other paths of `FILES`; None: as they are.

        Raises:
          SettingError: if a file is named that the settings had none of.
        """
        moved = {flag: path for flag, path in zip(FILES, paths, strict=True) if path is not None}
        for flag in moved:
            if getattr(self, flag) is None:
                raise SettingError(f"the run was trained without {{{flag}}}; leave it out")
        return dataclasses.replace(self, **moved)

    def check(self) -> None:
        """Raises SettingError if a setting has nothing to say without one that is missing."""
        missing = () if self.describes_items else _OF_ITEMS
        if not self.describes_items and not self.describes_users:
            missing += _OF_EITHER
        needed = {flag: "{item_attributes}" for flag in missing}
        if not self.describes_users:
            needed["trait_columns"] = "{user_traits}"
        for flag, needs in needed.items():
            value = getattr(self, flag)
            if value != getattr(AttributesConfig, flag):
                raise SettingError(f"{{{flag}}} {value} needs {needs}: name a file")
        if self.id_dropout and self.attribute_side != "both":
            raise SettingError(
                "{id_dropout} needs attributes wherever items are: {attribute_side} both"
            )
        if self.cold_items and self.attribute_side == "input":
            raise SettingError(
                "{cold_items} needs attributes in the scores: {attribute_side} both or score"
            )
