"""The order of the images, as a pure function of seed and step: nothing about it is ever saved."""

import functools

import numpy as np

from tfpipeline.system import UserError


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which one epoch visits the images.

    The stable ranks of `count` draws of Philox4x64 under the key (seed, epoch): each epoch has a stream of its own, so
    that the orders of consecutive epochs are independent.

    Args:
        seed: the run's seed, 0 <= seed < 2^64.
        epoch: number of the epoch, from 0.
        count: number of images.

    Returns:
        A permutation of 0..count-1, int64 (count,).
    """
    draws = np.random.Philox(key=[seed, epoch]).random_raw(count)
    return np.argsort(draws, kind="stable").astype(np.int64, copy=False)


def steps_per_epoch(batch_size: int, count: int) -> int:
    """How many whole batches an epoch has; the images that are left over are others in every epoch.

    Raises:
        UserError: when there are fewer images than one batch needs.
    """
    if not 0 < batch_size <= count:
        raise UserError(f"batch size {batch_size} does not fit {count} images; choose one from 1 to {count}")
    return count // batch_size


def indices_at(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """The images of one batch, at the same cost for every step.

    Args:
        seed: the run's seed.
        step: number of the step, from 0, over all epochs.
        batch_size: images per batch, 1..count.
        count: number of images.

    Returns:
        Indices of images, int64 (batch_size,).

    Raises:
        UserError: when there are fewer images than one batch needs.
    """
    epoch, batch = divmod(step, steps_per_epoch(batch_size, count))
    return _recent_permutation(seed, epoch, count)[batch * batch_size : (batch + 1) * batch_size]


@functools.lru_cache(maxsize=2)  # Batches are prepared in parallel: two epochs meet at their boundary.
def _recent_permutation(seed, epoch, count):
    order = permutation(seed, epoch, count)
    order.flags.writeable = False
    return order
