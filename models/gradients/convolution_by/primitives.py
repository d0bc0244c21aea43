"""The convolution by TensorFlow's primitives, which oneDNN computes on a CPU.

Their own explicit padding is a trap: with it both gradients leave oneDNN, and bfloat16 takes 60 times as long. So
images whose padding has no name get their zeros first.
"""

import tensorflow as tf

from models.gradients.windows import dimensions, windows_on


def forward(images, kernel, strides, padding):
    """y, (B, H', W', F); the arguments are those of `models.gradients.convolution.convolution`."""
    if isinstance(padding, str):
        return tf.raw_ops.Conv2D(input=images, filter=kernel, **_options(strides, padding))
    windows = windows_on(dimensions(images), kernel.shape[:2], strides, padding)
    return forward(windows.pad(images), kernel, strides, "valid")


def images_gradient(g, kernel, shape, strides, padding):
    """dL/dx, of the shape given."""
    if isinstance(padding, str):
        options = _options(strides, padding)
        return tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=g, **options)
    windows = windows_on(shape, kernel.shape[:2], strides, padding)
    padded_shape = shape[0], *windows.padded, shape[3]
    return windows.crop(images_gradient(g, kernel, padded_shape, strides, "valid"))


def kernel_gradient(images, g, shape, strides, padding):
    """dL/dK, of the shape given."""
    if isinstance(padding, str):
        options = _options(strides, padding)
        return tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=shape, out_backprop=g, **options)
    windows = windows_on(dimensions(images), shape[:2], strides, padding)
    return kernel_gradient(windows.pad(images), g, shape, strides, "valid")


def _options(strides, padding):
    return {"strides": (1, *strides, 1), "padding": padding.upper()}
