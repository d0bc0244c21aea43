"""What answers tell about which image was shown, computed in two ways, and by hand where that is easy."""

import numpy as np
import pytest

from labeling.enlarging.information import information_by_image, mutual_information
from tfpipeline.training import entropy


def test_the_mean_over_images_is_the_mutual_information():
    p = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 20)
    by_image = information_by_image(np.log(p))
    expected = [sum(q * np.log(q / c) for q, c in zip(row, p.mean(0), strict=True)) for row in p]
    np.testing.assert_allclose(by_image, expected)
    assert mutual_information(p.mean(0), entropy(p)) == pytest.approx(by_image.mean())


def test_classes_without_probability_tell_nothing():
    with np.errstate(divide="ignore"):
        log_p = np.log([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(information_by_image(log_p), np.log(2))
