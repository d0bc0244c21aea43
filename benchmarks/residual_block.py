"""The residual blocks as one operation against the plain composition of our layers and that of Keras's own.

    python -m benchmarks.residual_block

A block of each kind takes float32 images of 32x32x32 (a batch of 64; bottleneck: 32x32x64), in training mode, in one
tf.function. Printed per kind and way:

- saved: bytes that stay allocated between the forward and the backward pass, beside the block's input, as a multiple of
  the input's size. Measured as the growth of the process's resident memory, in a process of its own.
- ms: forward and backward of the block, gradients by the input and by all weights; the ways take turns in one process.

The last line is one JSON object. A memory ratio is that of the fused block's saved bytes to the other's, the largest
of the kinds; a speed ratio the other's time to the fused block's, the geometric mean of the kinds.
"""

import functools
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys

import keras
import tensorflow as tf

from benchmarks.timing import medians
from models.blocks import BottleneckBlock, ResidualBlock

BATCH, SIZE = 64, 32
REPEATS = 21
# kind: (block, channels of the images, filters, strides)
KINDS = {
    "identity": (ResidualBlock, 32, 32, 1),
    "projection": (ResidualBlock, 32, 64, 2),
    "bottleneck": (BottleneckBlock, 64, 64, 1),
}
WAYS = ("fused", "plain", "keras")


def keras_block(x, block, filters, strides):
    """The block of Keras's own layers."""

    def normalized(x, filters, size, strides):
        x = keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization()(x)

    branch = x
    for number, (_, width, size, stride) in enumerate(block(filters, strides).branch_convolutions()):
        branch = normalized(keras.layers.ReLU()(branch) if number else branch, width, size, stride)
    projects = x.shape[-1] != filters or strides != 1
    shortcut = normalized(x, filters, 1, strides) if projects else x
    return keras.layers.ReLU()(keras.layers.Add()([branch, shortcut]))


def model_of(kind, way):
    """A model of one block."""
    block, channels, filters, strides = KINDS[kind]
    images = keras.Input((SIZE, SIZE, channels))
    if way == "keras":
        return keras.Model(images, keras_block(images, block, filters, strides))
    return keras.Model(images, block(filters, strides, fused=way == "fused")(images))


def images_of(kind):
    """A batch of noise."""
    return tf.random.stateless_normal((BATCH, SIZE, SIZE, KINDS[kind][1]), (1, 0))


def training_step(model):
    """images -> the gradients of <outputs, outputs> / 2 by the images and the weights."""

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
        return tape.gradient(outputs, [images, *model.trainable_variables], output_gradients=outputs)

    return step


def resident_bytes():
    """The process's resident memory (Linux)."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def saved_bytes(kind, way):
    """What stays allocated for the gradient of one block, beside its input."""
    model, images = model_of(kind, way), images_of(kind)
    forward = tf.function(lambda images: model(images, training=True), autograph=False)
    tapes, growths = [], []
    for _ in range(7):
        gc.collect()
        before = resident_bytes()
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = forward(images)
        del outputs  # After the recording: the tape forgets operations whose outputs nobody has.
        growths.append(resident_bytes() - before)
        tapes.append(tape)  # Kept, so that the next call cannot take what this one freed.
    return int(statistics.median(growths[3:]))


def saved_alone(kind, way):
    """`saved_bytes` in a process of its own, as a multiple of the input's size."""
    # Every tensor is mapped by itself, so that its bytes leave the process when it is freed.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks.residual_block", kind, way]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return int(answer) / (BATCH * SIZE * SIZE * KINDS[kind][1] * 4)


def main():
    """Prints a line per kind and way, and the figures."""
    memory, times = {}, {}
    print(f"{'':12} {'':6} {'saved':>8} {'ms':>8}   ratios to the fused block: saved, speed")
    for kind in KINDS:
        images = images_of(kind)
        steps = {way: functools.partial(training_step(model_of(kind, way)), images) for way in WAYS}
        times[kind] = medians(steps, REPEATS)
        memory[kind] = {way: saved_alone(kind, way) for way in WAYS}
        for way in WAYS:
            print(
                f"{kind:12} {way:6} {memory[kind][way]:8.2f} {1000 * times[kind][way]:8.1f}   "
                f"{memory[kind]['fused'] / memory[kind][way]:.3f} {times[kind][way] / times[kind]['fused']:.3f}",
                flush=True,
            )
    figures = {}
    for way, name in (("plain", ""), ("keras", "keras_")):
        figures[f"{name}memory_ratio"] = max(memory[kind]["fused"] / memory[kind][way] for kind in KINDS)
        figures[f"{name}speed_ratio"] = statistics.geometric_mean(
            times[kind][way] / times[kind]["fused"] for kind in KINDS
        )
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(saved_bytes(*sys.argv[1:]))
    else:
        main()
