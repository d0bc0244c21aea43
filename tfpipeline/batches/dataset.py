"""Batches of images and targets as tf.data, each a pure function of its step."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpipeline.batches import order, replay
from tfpipeline.batches.mixing import OWN_WEIGHT, PARTNER, random_of_step

PARALLEL_BATCHES = 2


def training_batches(
    images: np.ndarray,
    targets: dict[str, np.ndarray],
    batch_size: int,
    seed: int,
    first_step: int,
    augment: Callable | None = None,
    mix: Callable | None = None,
    views: int = 1,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """The endless batches of a training run, from any step on.

    The batch of step s holds the images `order.indices_at(seed, s, ...)`; nothing depends on the batches before it.

    Args:
        images: uint8 (N, H, W, C), may be memory-mapped.
        targets: arrays (N * views, ...) by name, gathered by the same indices; those of an image lie side by side.
        batch_size: B, 1..N.
        seed: the run's seed.
        first_step: number of the step to begin with, from 0.
        augment: (images, seed, counters) -> images, as in tfpipeline/batches/augmentation.py.
        mix: (images, random) -> (images, partner, own_weight), as in tfpipeline/batches/mixing.py.
        views: how many views of each image the targets tell apart; each sample gets those of the view that
            `replay.drawn` draws for it, and `augment` shows that view.
        worker: which of the workers this is, 0..workers-1.
        workers: how many share each batch evenly; the rows of all, one worker after the other, are the batch of one.

    Returns:
        A dataset of dicts: "index" int64 (B/workers,), "images" uint8 (B/workers, H, W, C), and every target
        (B/workers, ...); with `mix` also "own_weight" float32 (B/workers,) and every target of the partners as
        "partner_" and its name.

    Raises:
        UserError: when there are fewer images than one batch needs.
    """
    part = slice(worker * batch_size // workers, (worker + 1) * batch_size // workers)
    count = len(images)
    epoch_steps = order.steps_per_epoch(batch_size, count)

    def batch_at(step):
        index = order.indices_at(seed, int(step), batch_size, count)
        if mix is None:  # Then nothing of a sample depends on the other samples.
            index = index[part]
        counters = step // epoch_steps * count + index
        rows = index if views == 1 else index * views + replay.drawn(seed, counters, views)
        pixels = images[index]
        if augment is not None:
            pixels = augment(pixels, seed, counters)
        if mix is None:
            return _gathered(index, pixels, targets, rows)
        pixels, partner, own_weight = mix(pixels, random_of_step(seed, int(step)))
        of_partners = [array[rows[partner]] for array in targets.values()]
        return [array[part] for array in (*_gathered(index, pixels, targets, rows), own_weight, *of_partners)]

    known = targets
    if mix is not None:
        partners = {PARTNER + name: array for name, array in targets.items()}
        known = {**targets, OWN_WEIGHT: np.empty(0, np.float32), **partners}
    # Of batches without an end, workers need not ask one another at every step whether there is one more.
    steps = tf.data.Dataset.counter(first_step)
    return _mapped(steps, batch_at, batch_size // workers, images, known)


def evaluation_batches(images: np.ndarray, targets: dict[str, np.ndarray], batch_size: int) -> tf.data.Dataset:
    """All images in their order, each once; the last batch may be smaller.

    Args:
        images: uint8 (N, H, W, C), may be memory-mapped.
        targets: arrays (N, ...) by name.
        batch_size: B of all batches but the last.

    Returns:
        A dataset of dicts as `training_batches` gives.
    """

    def batch_at(first):
        index = np.arange(first, min(first + batch_size, len(images)))
        return _gathered(index, images[index], targets, index)

    firsts = tf.data.Dataset.range(0, len(images), batch_size)
    return _mapped(firsts, batch_at, None, images, targets)


def _gathered(index, pixels, targets, rows):
    return [index, np.ascontiguousarray(pixels), *(array[rows] for array in targets.values())]


def _mapped(numbers, batch_at, batch_size, images, targets):
    """The dataset batch_at(number), prepared in parallel and delivered in order, its shapes known."""
    arrays = {"index": np.empty(0, np.int64), "images": images, **targets}

    def tensors(number):
        flat = tf.numpy_function(batch_at, [number], [array.dtype for array in arrays.values()], stateful=False)
        for tensor, array in zip(flat, arrays.values(), strict=True):
            tensor.set_shape((batch_size, *array.shape[1:]))
        return dict(zip(arrays, flat, strict=True))

    batches = numbers.map(tensors, num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
    return batches.prefetch(PARALLEL_BATCHES)
