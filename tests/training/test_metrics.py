"""Figures of answers against sums that a person does by hand."""

import numpy as np
import pytest

from tfpipeline.training import agreement, entropy, reliability, share_in_top


def test_the_share_among_the_first_answers():
    top, wanted = np.array([[0, 1], [2, 0], [1, 2], [0, 2]]), np.array([0, 0, 0, -1])
    assert share_in_top(top, wanted, 1) == pytest.approx(1 / 3)
    assert share_in_top(top, wanted, 2) == pytest.approx(2 / 3)
    assert share_in_top(top, np.full(4, -1), 1) is None


def test_agreement_is_the_mean_over_the_others():
    mine = np.array([3, 1, 2, 2])
    assert agreement(mine, [np.array([3, 1, 0, 2]), np.array([0, 0, 0, 2])]) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert agreement(mine, []) is None


def test_entropy_in_nats():
    p = np.array([[0.25] * 4, [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(entropy(p), [np.log(4), np.log(2), 0])
    assert entropy(p[1]) == pytest.approx(np.log(2))


def test_reliability_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.15, 1.0]), np.array([True, False, False, True])
    found = reliability(confidence, right)
    assert found.counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert found.accuracy[[1, 9]].tolist() == [0, 2 / 3] and np.isnan(found.accuracy[[0, 2, 8]]).all()
    assert found.error == pytest.approx((abs(2 - 2.9) + abs(0 - 0.15)) / 4)


@pytest.mark.parametrize("bins", [1, 7])
def test_the_error_is_the_mean_over_bins_of_their_share(bins):
    rng = np.random.default_rng(0)
    confidence, right = rng.uniform(0, 1, 200), rng.uniform(0, 1, 200) < 0.4
    expected = 0.0
    for number in range(bins):
        inside = (confidence >= number / bins) & (confidence < (number + 1) / bins)
        expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert reliability(confidence, right, bins).error == pytest.approx(expected)
