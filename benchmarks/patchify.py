"""Patchify with its gradient derived by hand against tf.nn.conv2d with autodiff, and PyTorch where it is installed.

    python -m benchmarks.patchify

Batches of 256 float32 images, 40 filters as in the published patchify networks. "kernel" is forward + dL/dK, what a
first layer needs; "both" is forward + dL/dK + dL/dx. All libraries alternate within one run, so that a busy moment of
the machine meets all of them; milliseconds are medians. A ratio below 1 says that ours is slower.

What to expect: forward and dL/dK of patches of 2 to 8 are bound by reading the images and the cotangent from memory,
for everybody. There ours is won by little at 32x32, and at 64x64 it is TensorFlow's own primitives. With patches of 16
oneDNN's dL/dK leaves its fast path. dL/dx is won everywhere: a product and a rearrangement at the speed of copying.

The last line is one JSON object: geometric mean and least of the ratios against TensorFlow.
"""

import itertools
import json
import statistics

import tensorflow as tf

from benchmarks.timing import medians
from models.gradients.patchify import patchify

BATCH, CHANNELS, FILTERS = 256, 3, 40
IMAGE_SIZES, PATCH_SIZES = (32, 64), (2, 4, 8, 16)
REPEATS = 31


def step(function, images, kernel, cotangent, by_images):
    """A function without arguments: forward and the gradients by the kernel and, where asked, by the images."""

    @tf.function(autograph=False)
    def compute(images, kernel, cotangent):
        sources = [kernel, images] if by_images else [kernel]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            features = function(images, kernel)
        return features, tape.gradient(features, sources, output_gradients=cotangent)

    return lambda: compute(images, kernel, cotangent)


def torch_step(torch, images, kernel, cotangent, size, by_images):
    """The same in PyTorch, in the layout where its CPU convolutions are fastest."""

    def first(tensor, *axes):
        return torch.tensor(tensor.numpy()).permute(*axes).contiguous(memory_format=torch.channels_last)

    images = first(images, 0, 3, 1, 2).requires_grad_(by_images)
    kernel = first(kernel, 3, 2, 0, 1).requires_grad_()
    cotangent = first(cotangent, 0, 3, 1, 2)
    sources = [kernel, images] if by_images else [kernel]

    def compute():
        features = torch.nn.functional.conv2d(images, kernel, stride=size)
        return features, torch.autograd.grad(features, sources, cotangent)

    return compute


def contenders(torch, image_size, size, by_images):
    """{library: function} for one size."""
    images = tf.random.stateless_normal((BATCH, image_size, image_size, CHANNELS), (1, 0))
    kernel = tf.random.stateless_normal((size, size, CHANNELS, FILTERS), (2, 0))
    cotangent = tf.random.stateless_normal((BATCH, image_size // size, image_size // size, FILTERS), (3, 0))
    operands = images, kernel, cotangent
    functions = {
        "ours": step(lambda x, k: patchify(x, k, by_images), *operands, by_images),
        "tensorflow": step(lambda x, k: tf.nn.conv2d(x, k, size, "VALID"), *operands, by_images),
    }
    if torch:
        functions["torch"] = torch_step(torch, *operands, size, by_images)
    return functions


def import_torch():
    """PyTorch, or None with a line that says so."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: its column is left out (make test-peers installs it)")
        return None
    return torch


def main():
    """Prints a line per size, and the figures."""
    torch = import_torch()
    names = ("ours", "tensorflow", *(["torch"] if torch else []))
    ratios = {"kernel": [], "both": []}
    print(f"{'':6} {'image':>6} {'patch':>6}" + "".join(f"{name + ' ms':>15}" for name in names) + "   ratios to ours")
    for (what, found), image_size, size in itertools.product(ratios.items(), IMAGE_SIZES, PATCH_SIZES):
        times = medians(contenders(torch, image_size, size, by_images=what == "both"), REPEATS)
        others = [times[name] / times["ours"] for name in names[1:]]
        found.append(others[0])
        print(
            f"{what:6} {image_size:6} {size:6}"
            + "".join(f"{1000 * times[name]:15.2f}" for name in names)
            + "   "
            + "  ".join(f"{ratio:.2f}" for ratio in others),
            flush=True,
        )
    figures = {}
    for what, found in ratios.items():
        figures[f"{what}_geomean"] = round(statistics.geometric_mean(found), 3)
        figures[f"{what}_min"] = round(min(found), 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
