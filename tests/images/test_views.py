"""Views of images: mirrored, cut out, and named."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipeline.images import View, parse_joined, parse_view
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
    view = parse_view(name)
    view.check_fits(7, 9)
    assert str(view) == name
    for images in (IMAGES, tf.constant(IMAGES)):
        np.testing.assert_array_equal(view.cut(images), expected)


def test_joined_views_are_parsed_in_their_order():
    assert parse_joined("flip+crop:1:3:5") == (View(is_mirrored=True), View((1, 3, 5)))


@pytest.mark.parametrize("name", ["", "turn", "crop:1:2", "crop:-1:2:3", "crop:0:0:0", "crop:3:0:5", "crop:0:5:5"])
def test_views_that_are_none(name):
    with pytest.raises(FlagError, match="--views"):
        parse_view(name).check_fits(7, 9)
