"""Models without training, and their exports."""

import pytest

from mqsa_jax.export.writing import export_run
from tests.export.models import NAMES, model_of


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """A model of each kind, by name."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: model_of(name, folder / name) for name in NAMES}


@pytest.fixture(scope="package")
def exports(models, tmp_path_factory):
    """Folder of the exports of the models, by their names."""
    folder = tmp_path_factory.mktemp("exports")
    for name, model in models.items():
        export_run(model, folder / name)
    return folder
