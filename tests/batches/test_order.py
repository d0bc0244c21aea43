import itertools

import numpy as np
import pytest

from tfpipeline.batches import order
from tfpipeline.system.errors import UserError


@pytest.mark.parametrize("count", [1, 2, 997])
def test_permutation_holds_every_image_once(count):
    assert sorted(order.permutation(3, 5, count)) == list(range(count))


def test_permutation_is_the_documented_one():
    expected = np.argsort(np.random.Philox(key=[7, 2]).random_raw(50), kind="stable")
    assert np.array_equal(order.permutation(7, 2, 50), expected)


def test_the_steps_of_an_epoch_are_its_permutation_without_the_remainder():
    steps = [order.indices_at(seed=1, step=step, batch_size=4, count=11) for step in range(2, 4)]
    assert np.array_equal(np.concatenate(steps), order.permutation(1, 1, 11)[:8])


def test_every_epoch_leaves_other_images_out():
    left_out = {tuple(order.permutation(0, epoch, 11)[8:]) for epoch in range(20)}
    assert len(left_out) == 20


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_orders_of_other_seeds_and_epochs_are_uncorrelated(other):
    count = 50_000
    first = order.permutation(seed=0, epoch=0, count=count)
    second = order.permutation(**{"seed": 0, "epoch": 0, "count": count, **other})
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(count)


def test_consecutive_epochs_and_neighbors_are_uncorrelated():
    count = 20_000
    bound = 4 / np.sqrt(count)
    orders = [order.permutation(0, epoch, count) for epoch in range(12)]
    places = [np.argsort(one) for one in orders]
    for now, after in itertools.pairwise(orders):
        assert abs(np.corrcoef(now, after)[0, 1]) < bound
        assert abs(np.corrcoef(now[:-1], now[1:])[0, 1]) < bound
    for now, after in itertools.pairwise(places):
        assert abs(np.corrcoef(now, after)[0, 1]) < bound
        # Images that are next to each other in one epoch are not so in the next one.
        assert abs(np.corrcoef(after[np.argsort(now)][:-1], after[np.argsort(now)][1:])[0, 1]) < bound


@pytest.mark.parametrize("batch_size", [0, 12])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UserError, match=f"batch size {batch_size} does not fit 11 images"):
        order.indices_at(0, 0, batch_size, 11)
