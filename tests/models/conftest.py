"""Parameters for the tests of the encoder."""

import pytest

from tests.models.encoder_cases import DEEP, random_params


@pytest.fixture(scope="module")
def params():
    """Random parameters of the deep encoder."""
    return random_params(DEEP, 0)
