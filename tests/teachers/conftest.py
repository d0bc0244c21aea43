"""Teachers of many and of few classes, which the tests of subsets and of own classes share."""

import pytest

from labeling.teachers.teacher import load_teacher
from tests.support.tiny_teachers import save_hub_module


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory):
    """A teacher of ImageNet's 1,000 classes in the TF-Hub convention, which does not name them."""
    return load_teacher(str(save_hub_module(tmp_path_factory.mktemp("hub") / "m", classes=1001)))


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A teacher that names its five classes, one of them a number."""
    directory = save_hub_module(tmp_path_factory.mktemp("hub") / "m", classes=5)
    (directory / "classes.txt").write_text("tench, Tinca tinca\ncrane, bird\ncrane, machine\ncat\n7\n")
    return load_teacher(str(directory))
