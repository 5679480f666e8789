"""The tiny model that most tests of training use."""

import pytest
from tiny import tiny_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a model that starts in milliseconds; tests must not write into it."""
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0)
