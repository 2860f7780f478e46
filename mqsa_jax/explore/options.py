"""What `explore` is asked to show; without JAX."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """What is to be shown."""

    run_dir: str
    k: int = 10
    item_titles: str | None = None
    title_column: str | None = None
    item_attributes: str | None = None
    """None: the file that the run was trained with, if any."""
    attribute_columns: str | None = None
    dataset: str | None = None
    """Name or full path; None: as in training."""
    data_dir: str | None = None
    user_traits: str | None = None
    """None: as in training."""
