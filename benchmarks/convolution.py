"""The ways to compute a convolution and its two gradients: the figures behind method="auto".

    python -m benchmarks.convolution

Milliseconds are medians of turns that alternate between the methods; "auto" is what `convolution` chooses by itself.
The last line is one JSON object: how much longer than the best of the three methods "auto" takes, on geometric average
and at most. 1.0 is as fast as the best.
"""

import json
import statistics

import tensorflow as tf

from benchmarks.timing import medians
from models.gradients.convolution import METHODS, fastest
from models.gradients.windows import dimensions, windows_on

GEOMETRIES = [  # batch, H = W, C, F, P = Q, stride
    (64, 32, 3, 32, 3, 1),
    (64, 32, 64, 64, 3, 1),
    (64, 16, 128, 128, 3, 1),
    (64, 16, 64, 128, 3, 2),
    (64, 8, 256, 256, 3, 1),
    (64, 4, 512, 512, 3, 1),
    (64, 32, 24, 64, 2, 1),
    (64, 32, 32, 64, 1, 2),
]
REPEATS = 11


def functions_of(geometry, dtype):
    """{"forward", "dL/dx", "dL/dK": {method: function without arguments}} and what "auto" takes for each."""
    batch, length, channels, filters, width, stride = geometry
    images = tf.cast(tf.random.stateless_normal((batch, length, length, channels), (1, 0)), dtype)
    kernel = tf.cast(tf.random.stateless_normal((width, width, channels, filters), (2, 0)), dtype)
    windows = windows_on(dimensions(images), (width, width), (stride, stride), "same")
    cotangent = tf.cast(tf.random.stateless_normal((batch, *windows.output, filters), (3, 0)), dtype)
    options = (stride, stride), "same"
    compute = {
        "forward": lambda module: module.forward(images, kernel, *options),
        "dL/dx": lambda module: module.images_gradient(cotangent, kernel, dimensions(images), *options),
        "dL/dK": lambda module: module.kernel_gradient(images, cotangent, kernel.shape, *options),
    }
    functions = {
        what: {
            name: tf.function(lambda call=call, module=module: call(module), autograph=False)
            for name, module in METHODS.items()
        }
        for what, call in compute.items()
    }
    names = {module: name for name, module in METHODS.items()}
    return functions, dict(zip(compute, map(names.get, fastest(windows, kernel)), strict=True))


def main():
    """Prints a line per geometry, dtype and product, and the figures."""
    print(f"{'B H C F P S':24} {'dtype':9} {'':8}" + "".join(f"{name:>12}" for name in METHODS) + "  auto takes")
    slower = []
    for dtype in (tf.float32, tf.bfloat16):
        for geometry in GEOMETRIES:
            functions, chosen = functions_of(geometry, dtype)
            for what in functions:
                times = medians(functions[what], REPEATS)
                slower.append(times[chosen[what]] / min(times.values()))
                print(
                    f"{' '.join(map(str, geometry)):24} {dtype.name:9} {what:8}"
                    + "".join(f"{1000 * times[name]:12.2f}" for name in METHODS)
                    + f"  {chosen[what]}",
                    flush=True,
                )
    print(json.dumps({"auto_geomean": round(statistics.geometric_mean(slower), 3), "auto_max": round(max(slower), 3)}))


if __name__ == "__main__":
    main()
