"""Attributes of items and names of traits, kept in the run's folder, so that no file is needed."""

import dataclasses
import json

import numpy as np

from mqsa_jax.attribute_settings import AttributesConfig
from mqsa_jax.data.attributes import Attributes
from mqsa_jax.data.dataset import Dataset
from mqsa_jax.errors import UserError
from mqsa_jax.inference.stored_model import read_arrays
from mqsa_jax.runs.run_directory import RunDirectory

ATTRIBUTES = "attributes.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class StoredAttributes:
    """What a run knows of items and users beside its parameters."""

    items: Attributes | None
    """[V] lists; None: nothing is known."""
    trait_names: tuple[str, ...]
    """Of the rows of the parameters `trait_embedding`."""
    num_cold: int
    """Items at the end of the vocabulary that no history holds."""

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Of the rows of the parameters `attribute_embedding`."""
        return () if self.items is None else self.items.names

    @property
    def sizes(self) -> dict[str, int]:
        """Of the `Recommender`."""
        return {
            "num_attributes": len(self.attribute_names),
            "num_traits": len(self.trait_names),
            "num_cold": self.num_cold,
        }


def write_attributes(run_dir: RunDirectory, data: Dataset) -> None:
    """Writes what is known of the items and users of data; nothing, if nothing is."""
    if data.attributes is None and data.traits is None:
        return
    traits = () if data.traits is None else data.traits.names
    arrays = {
        "data_fingerprint": np.array(data.inputs_fingerprint()),
        "num_cold": np.int64(data.num_cold),
        "trait_names": np.array(json.dumps(traits)),
    }
    if data.attributes is not None:
        arrays |= {
            "row_start": data.attributes.row_start,
            "attribute": data.attributes.attribute,
            "power": np.float64(data.attributes.power),
            "attribute_names": np.array(json.dumps(data.attributes.names)),
        }
    run_dir.write_arrays(ATTRIBUTES, arrays)


def read_attributes(
    run_dir: RunDirectory, settings: AttributesConfig, data_fingerprint: str
) -> StoredAttributes:
    """What `write_attributes` wrote for a run of these settings.

    Raises:
      UserError: naming the file, if it is missing, damaged, or of other data.
    """
    if not settings.describes_items and not settings.describes_users:
        return StoredAttributes(None, (), 0)
    lists = ["row_start", "attribute", "power", "attribute_names"]
    names = ["data_fingerprint", "num_cold", "trait_names"]
    arrays = read_arrays(run_dir, ATTRIBUTES, names + lists * settings.describes_items)
    if str(arrays["data_fingerprint"]) != data_fingerprint:
        raise UserError(
            f"{run_dir.path / ATTRIBUTES}: made of other data than the checkpoint; evaluate the "
            "run on its own data, which writes it anew"
        )
    items = None
    if settings.describes_items:
        called = tuple(json.loads(str(arrays["attribute_names"])))
        items = Attributes(arrays["row_start"], arrays["attribute"], called, float(arrays["power"]))
    traits = tuple(json.loads(str(arrays["trait_names"])))
    return StoredAttributes(items, traits, int(arrays["num_cold"]))
