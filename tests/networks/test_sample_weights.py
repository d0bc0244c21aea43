"""Weights of samples, against computing them by hand."""

import numpy as np
import pytest

from models.sample_weights import sample_weights

CLASSES = np.array([3, 0, 3, 3, 1, 3])
PROBABILITY = np.array([0.9, 0.5, 0.4, 0.6, 0.7, 0.5], np.float32)


def test_unsure_answers_do_not_count_and_the_others_make_up_for_them():
    weights = sample_weights(CLASSES, PROBABILITY, threshold=0.5)
    np.testing.assert_allclose(weights, [6 / 5, 6 / 5, 0, 6 / 5, 6 / 5, 6 / 5])
    assert weights.dtype == np.float32


def test_with_beta_1_every_class_has_the_same_share():
    weights = sample_weights(CLASSES, balance=1.0)
    np.testing.assert_allclose(weights, [6 / 3 / 4, 6 / 3, 6 / 3 / 4, 6 / 3 / 4, 6 / 3, 6 / 3 / 4])


def test_with_beta_one_half_the_share_is_the_square_root_among_what_counts():
    weights = sample_weights(CLASSES, PROBABILITY, threshold=0.5, balance=0.5)
    unscaled = np.array([3**-0.5, 1, 0, 3**-0.5, 1, 3**-0.5])  # Three of class 3 count, one of 0, one of 1.
    np.testing.assert_allclose(weights, unscaled * 6 / (3 * 3**-0.5 + 2), rtol=1e-6)


@pytest.mark.parametrize("flags", [{}, {"threshold": 0.2}, {"balance": 0.3}, {"threshold": 0.55, "balance": 1.0}])
def test_the_mean_is_1(flags):
    assert sample_weights(CLASSES, PROBABILITY, **flags).mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_a_threshold_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"no sample has a probability of 0.95 or more, the highest is 0.9"):
        sample_weights(CLASSES, PROBABILITY, threshold=0.95)
