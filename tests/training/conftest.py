"""The working directory of the tests that train the small run of `run_cases`."""

import pytest

from tests.training.run_cases import write_histories


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The working directory: a folder with the data."""
    folder = tmp_path_factory.mktemp("home")
    write_histories(folder / "histories.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder
