"""Views of images: mirrored, cut out, and named."""

import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging import views
from tfpipeline.system.errors import FlagError

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 7, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", IMAGES),
        ("flip", IMAGES[:, :, ::-1]),
        ("crop:1:3:5", IMAGES[:, 1:6, 3:8]),
        ("crop:1:3:5:flip", IMAGES[:, 1:6, 7:2:-1]),
    ],
)
def test_views(name, expected):
    views.check(name, 7, 9)
    np.testing.assert_array_equal(views.look(tf.constant(IMAGES), name), expected)


@pytest.mark.parametrize("name", ["", "turn", "crop:1:2", "crop:-1:2:3", "crop:0:0:0", "crop:3:0:5", "crop:0:5:5"])
def test_views_that_are_none(name):
    with pytest.raises(FlagError, match="--views"):
        views.check(name, 7, 9)
