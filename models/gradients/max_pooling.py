"""The largest element of each window."""

import tensorflow as tf

from models.gradients.windows import dimensions, pair, pools_on


def max_pooling(images, window, strides=None, padding="valid"):
    """y[b,h,w,c] = max_pq x[b,hS+p-top,wT+q-left,c], over the places inside the image

    Args:
        images: x, (B, H, W, C), floating point.
        window: (P, Q), or one int for both.
        strides: (S, T), or one int for both; the window by default.
        padding: "same", "valid", or ((top, bottom), (left, right)), each less than the window.

    Returns:
        y, (B, H', W', C). With g = dL/dy, and (p*,q*) the first place of the window, row by row, where x is largest:
            dL/dx[b,i,j,c] = sum_hw g[b,h,w,c] [hS+p*-top = i] [wT+q*-left = j]
        So among equal elements the first one gets all of g: one of the subgradients, and the usual choice.

    Raises:
        ValueError: no window fits into the padded image, or a window may lie wholly outside of the image.
    """
    window = pair(window, "window")
    strides = window if strides is None else pair(strides, "strides")
    windows = pools_on(dimensions(images), window, strides, padding)
    options = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": "VALID"}

    @tf.custom_gradient
    def pooled(images):
        padded = windows.pad(images, images.dtype.min)
        largest = tf.raw_ops.MaxPool(input=padded, **options)

        def gradient(g):
            padded_gradient = tf.raw_ops.MaxPoolGrad(orig_input=padded, orig_output=largest, grad=g, **options)
            return windows.crop(padded_gradient)

        return largest, gradient

    return pooled(images)
