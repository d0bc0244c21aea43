"""A training step of whole networks of our layers against the same networks of Keras's own layers.

    python -m benchmarks.networks [NETWORK ...]

Images of 32x32 pixels, noise, 100 classes, AdamW, in float32 and in mixed_bfloat16. Each network is built by its one
function in models/networks.py, once with our layers and once with Keras's in their places; both have the same number
of weights, and are fed and stepped by the same loop, that of jobs.train. Each trains in a process of its own; the two
take turns.

The last line is one JSON object: network -> precision -> speed_ratio, Keras's time to ours, better the larger, and
memory_ratio, the largest memory of our process to that of Keras's, which both have TensorFlow itself in them.
"""

import contextlib
import functools
import json
import os
import sys
from unittest import mock

import numpy as np

from benchmarks.timing import measure_apart

IMAGES, SIZE, CLASSES = 2_000, 32, 100
STEPS_PER_TURN, REPEATS = 4, 7
# network: images in a batch
BATCH = {"fast_resnet": 125, "resnet_classifier": 32, "sequential_cnn": 64}
PRECISIONS = ("float32", "mixed_bfloat16")


def keras_layers():
    """Name in models.networks -> what makes Keras's own layer, or the block of them, with the same arguments."""
    import keras

    from benchmarks.residual_block import keras_block
    from models.blocks import ResidualBlock

    def convolution(filters, kernel_size, strides=1, use_bias=True):
        return keras.layers.Conv2D(
            filters, kernel_size, strides, "same", use_bias=use_bias, kernel_initializer="he_normal"
        )

    def linear(units, kernel_initializer="he_normal", name=None):
        return keras.layers.Dense(units, kernel_initializer=kernel_initializer, name=name)

    def max_pooling(pool_size, strides=None, padding="valid"):
        return keras.layers.MaxPooling2D(pool_size, strides, padding)

    def residual_block(filters, batch_norm=True):
        if not batch_norm:
            raise NotImplementedError("no network is measured without")
        return lambda x: keras_block(x, ResidualBlock, filters, 1)

    return {
        "Convolution": convolution,
        "Linear": linear,
        "MaxPooling": max_pooling,
        "ResidualBlock": residual_block,
        "BatchNormalization": keras.layers.BatchNormalization,
        "Activation": keras.layers.Activation,
        "GlobalPooling": lambda mode: keras.layers.GlobalAveragePooling2D(),
    }


def build(name, layers):
    """A network of our layers, or of Keras's.

    Args:
        name: of the network.
        layers: "ours" or "keras".
    """
    from models import networks

    with mock.patch.multiple(networks, **keras_layers()) if layers == "keras" else contextlib.nullcontext():
        return networks.build(name, (SIZE, SIZE, 3), CLASSES)


def parameters(name):
    """The number of weights of a network, trained or not; that of our layers and Keras's."""
    ours, theirs = (build(name, layers).count_params() for layers in ("ours", "keras"))
    if ours != theirs:
        raise AssertionError(f"{name} has {ours:,} weights of our layers and {theirs:,} of Keras's: they differ")
    return ours


def trainer(name, precision, layers):
    """A function that takes the steps of a turn."""
    import keras
    import tensorflow as tf

    from jobs.training.optimizer import build_optimizer
    from models.flags import ObjectiveFlags, OptimizerFlags
    from models.objective import Objective
    from tfpipeline.batches import TrainingBatches
    from tfpipeline.training.step import compile_steps
    from tfpipeline.training.trainer import Task

    keras.config.set_dtype_policy(precision)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    truth = random.integers(0, CLASSES, IMAGES, dtype=np.int32)
    batches = TrainingBatches(images, {"truth": truth}, BATCH[name], seed=0)
    model = build(name, layers)
    optimizer = build_optimizer(OptimizerFlags(schedule="constant"), 1, batches.steps_per_epoch)
    optimizer.build(model.trainable_variables)
    task = Task(model, optimizer, Objective(ObjectiveFlags(), model), batches.from_step, batches.steps_per_epoch, 1)
    take_steps = compile_steps(task, tf.distribute.get_strategy())
    iterator = iter(batches.from_step(0))
    return lambda: take_steps(iterator, tf.constant(STEPS_PER_TURN)).numpy()


def main(names) -> None:
    """Measures and prints.

    Args:
        names: of the networks; none are all.
    """
    load, figures = os.getloadavg()[0], {}
    print(f"{'':20} {'weights':>10} {'':16} {'ours ms':>9} {'keras ms':>9} {'speed':>7} {'memory':>7}")
    for name in names or BATCH:
        figures[name], weights = {}, parameters(name)
        for precision in PRECISIONS:
            measured = measure_apart(
                {layers: functools.partial(trainer, name, precision, layers) for layers in ("ours", "keras")}, REPEATS
            )
            ours, theirs = measured["ours"], measured["keras"]
            ratios = {
                "speed_ratio": round(theirs.seconds / ours.seconds, 3),
                "memory_ratio": round(ours.peak_bytes / theirs.peak_bytes, 3),
            }
            figures[name][precision] = ratios
            times = [1000 * one.seconds / STEPS_PER_TURN for one in (ours, theirs)]
            print(
                f"{name:20} {weights:10,} {precision:16} {times[0]:9.1f} {times[1]:9.1f} {ratios['speed_ratio']:7.2f} "
                f"{ratios['memory_ratio']:7.2f}"
            )
    print(json.dumps(figures | {"load": round(load, 2)}))


if __name__ == "__main__":
    main(sys.argv[1:])
