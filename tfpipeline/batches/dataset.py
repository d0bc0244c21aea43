"""Batches of images and targets as tf.data, each a pure function of its step."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpipeline.batches import order
from tfpipeline.batches.augmentation import Augmentation
from tfpipeline.batches.mixing import OWN_WEIGHT, PARTNER, Mixing, random_of_step
from tfpipeline.batches.replay import draw_views, show_views
from tfpipeline.batches.sizes import Sizes
from tfpipeline.images import Pixels, View

PARALLEL_BATCHES = 2


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingBatches:
    """The endless batches of a training run: the one place where order, views, augmentation and mixing meet.

    The batch of step s holds the images `order.indices_at(seed, s, ...)`; nothing depends on the batches before it.

    Attributes:
        images: uint8 (N, H, W, C), may be memory-mapped.
        targets: arrays (N * max(views, 1), ...) by name; those of an image lie side by side.
        batch_size: B, 1..N.
        seed: the run's seed.
        augment: changes to the pixels of a sample; None for none.
        mix: mixes the samples of a batch; None for no mixing.
        views: the views of each image that the targets tell apart; each sample shows one of them, and gets its targets.
            () where the targets belong to whole images.
        part: (number, count) of the worker that these batches are for; the workers share each batch evenly, and the
            rows of all, one worker after the other, are the batch of one.
        sizes: of the batches, one after another; None for that of the images.

    Raises:
        UserError: there are fewer images than one batch needs.
    """

    images: Pixels
    targets: dict[str, np.ndarray]
    batch_size: int
    seed: int
    augment: Augmentation | None = None
    mix: Mixing | None = None
    views: tuple[View, ...] = ()
    part: tuple[int, int] = (0, 1)
    sizes: Sizes | None = None

    def __post_init__(self):
        order.steps_per_epoch(self.batch_size, len(self.images))

    @property
    def steps_per_epoch(self) -> int:
        """How many whole batches an epoch has."""
        return order.steps_per_epoch(self.batch_size, len(self.images))

    def from_step(self, first_step: int) -> tf.data.Dataset:
        """The batches from any step on, prepared in parallel and delivered in order.

        Args:
            first_step: number of the step to begin with, from 0, over all epochs.

        Returns:
            A dataset of dicts: "index" int64 (B/workers,), "images" uint8 (B/workers, H, W, C), H and W unknown with
            `sizes`, and every target (B/workers, ...); mixed batches have "own_weight" float32 (B/workers,) and
            every target of the partners as "partner_" and its name, too.
        """
        arrays = {"index": np.empty(0, np.int64), "images": self.images, **self.targets}
        if self.mix is not None:
            arrays[OWN_WEIGHT] = np.empty(0, np.float32)
            arrays |= {PARTNER + name: array for name, array in self.targets.items()}
        size = self.batch_size // self.part[1]
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        if self.sizes is not None and not self.sizes.enlarge:
            shapes["images"] = (None, None, self.images.shape[-1])

        def tensors(step):
            flat = tf.numpy_function(
                lambda step: list(self.at(int(step)).values()),
                [step],
                [array.dtype for array in arrays.values()],
                stateful=False,
            )
            for tensor, name in zip(flat, arrays, strict=True):
                tensor.set_shape((size, *shapes[name]))
            return dict(zip(arrays, flat, strict=True))

        # Of batches without an end, workers need not ask one another at every step whether there is one more.
        steps = tf.data.Dataset.counter(first_step)
        batches = steps.map(tensors, num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
        return batches.prefetch(PARALLEL_BATCHES)

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step, as `from_step` describes it."""
        batch = self._at_full_size(step)
        return batch if self.sizes is None else batch | {"images": self.sizes.at(batch["images"], step)}

    def _at_full_size(self, step):
        index = order.indices_at(self.seed, step, self.batch_size, len(self.images))
        number, count = self.part
        mine = slice(number * self.batch_size // count, (number + 1) * self.batch_size // count)
        if self.mix is None:  # Then nothing of a sample depends on the other samples.
            index = index[mine]
        pixels, rows = self.samples(index, step // self.steps_per_epoch)
        batch = {"index": index, "images": pixels} | {name: array[rows] for name, array in self.targets.items()}
        if self.mix is None:
            return batch
        batch["images"], partner, batch[OWN_WEIGHT] = self.mix(pixels, random_of_step(self.seed, step))
        batch |= {PARTNER + name: array[rows[partner]] for name, array in self.targets.items()}
        return {name: array[mine] for name, array in batch.items()}

    def samples(self, index: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images as an epoch shows them, before they are mixed.

        Args:
            index: int64 (B,), of the images.
            epoch: its number, from 0.

        Returns:
            (uint8 (B, H, W, C), int64 (B,): the rows of the targets that belong to them).
        """
        counters = epoch * len(self.images) + index
        pixels, rows = self.images[index], index
        if self.views:
            which = draw_views(self.seed, counters, len(self.views))
            pixels, rows = show_views(pixels, self.views, which), index * len(self.views) + which
        if self.augment is not None:
            pixels = self.augment(pixels, self.seed, counters)
        return np.ascontiguousarray(pixels), rows
