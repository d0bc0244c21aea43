"""What the courses ask to be counted: sizes of outputs, parameters and operations, the memory of a Jacobian.

    python -m benchmarks.counts

Counted on networks and layers as they are built, not by hand; nothing is timed. The last line is one JSON object.
"""

import json
import math

import tensorflow as tf

from models import networks
from models.blocks import BottleneckBlock, ResidualBlock

IMAGES = ((768, 1024), (1080, 1920))  # height, width
CHANNELS, LENGTH = 256, 32  # of the features that the blocks take
BATCH, INPUTS, OUTPUTS = 128, 1024, 2048
POOLED = ((28, 1), (32, 3))  # length and channels of the images of the networks that are pooled globally
PLAIN = {"layers_per_block": 1, "pool_every": 1, "hidden_dims": ()}


def output_sizes() -> dict[str, list[int]]:
    """Height and width that a convolution of 5x5, padding 1, stride 2 makes of images."""
    kernel, padding = tf.zeros((5, 5, 1, 1)), [[0, 0], [1, 1], [1, 1], [0, 0]]
    return {
        f"{width}x{height}": list(tf.nn.conv2d(tf.zeros((1, height, width, 1)), kernel, 2, padding).shape[1:3])[::-1]
        for height, width in IMAGES
    }


def block_counts(block) -> dict[str, int]:
    """Parameters with biases, and multiplications in the forward pass for one image, of a block without projection."""
    layer = block(CHANNELS, batch_norm=False)
    layer.build((None, LENGTH, LENGTH, CHANNELS))
    kernels = [convolution.kernel.shape for convolution in layer.convolutions]
    return {
        "parameters": sum(math.prod(weight.shape) for weight in layer.trainable_variables),
        "multiplications": LENGTH**2 * sum(map(math.prod, kernels)),
    }


def pooling_counts(length: int, channels: int) -> dict[str, int]:
    """Parameters of a flattened network for images of a length, and of the globally pooled one that is nearest."""

    def build_at(width):
        options = {"filters_per_layer": (16, 32, width), "global_pooling": "max", **PLAIN}
        return networks.build("conv_classifier", (None, None, channels), 10, **options)

    flat = networks.build("conv_classifier", (length, length, channels), 10, filters_per_layer=(16, 32, 64), **PLAIN)
    target = networks.parameter_count(flat)
    width = networks.closest_width(target, build_at, 1, 200)
    return {"flattened": target, "n": width, "global_pooling": networks.parameter_count(build_at(width))}


def main() -> None:
    """Prints the counts, the last line as JSON."""
    sizes = output_sizes()
    pooling = {f"{length}x{length}x{channels}": pooling_counts(length, channels) for length, channels in POOLED}
    for images, (width, height) in sizes.items():
        print(f"5x5, padding 1, stride 2, of {images}: {width}x{height}")
    blocks = {"residual": block_counts(ResidualBlock), "bottleneck": block_counts(BottleneckBlock)}
    for name, counts in blocks.items():
        numbers = f"{counts['parameters']:,} parameters, {counts['multiplications']:,} multiplications"
        print(f"{name} block of {CHANNELS} channels on {LENGTH}x{LENGTH}: {numbers}")
    jacobian = {
        "elements": BATCH * OUTPUTS * BATCH * INPUTS,
        "bytes": 4 * BATCH * OUTPUTS * BATCH * INPUTS,
        "backward_bytes": 4 * (INPUTS * OUTPUTS + BATCH * OUTPUTS + BATCH * INPUTS),
    }
    print(
        f"dy/dx of a linear layer from {INPUTS:,} to {OUTPUTS:,} features, a batch of {BATCH}, float32: "
        f"{jacobian['elements']:,} elements, {jacobian['bytes'] / 2**30:g} GiB; "
        f"W, dL/dy and dL/dx, which the backward pass holds instead: {jacobian['backward_bytes'] / 2**20:g} MiB"
    )
    for images, counts in pooling.items():
        print(
            f"3x3 convolutions on {images}, of 16, 32, 64 filters, flattened: {counts['flattened']:,} parameters; "
            f"with N = {counts['n']} filters and a global pooling: {counts['global_pooling']:,}"
        )
    print(json.dumps({"output_sizes": sizes, "blocks": blocks, "jacobian": jacobian, "pooling": pooling}))


if __name__ == "__main__":
    main()
