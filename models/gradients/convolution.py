"""The convolution, computed in whichever way is the fastest."""

import tensorflow as tf

from models.gradients.windows import check_channels, paddings, pair


def convolution(images, kernel, strides=1, padding="same"):
    """y[b,h,w,f] = sum_pqc x[b,hS+p-top,wT+q-left,c] K[p,q,c,f], x being 0 outside of the image

    Args:
        images: x, (B, H, W, C).
        kernel: K, (P, Q, C, F), a tensor of the dtype of `images`.
        strides: (S, T), or one int for both.
        padding: "same", "valid", or ((top, bottom), (left, right)).

    Returns:
        y, (B, H', W', F), H' = floor((H + top + bottom - P) / S) + 1. With g = dL/dy:
            dL/dx[b,i,j,c] = sum_hwpqf g[b,h,w,f] K[p,q,c,f] [hS+p-top = i] [wT+q-left = j]
            dL/dK[p,q,c,f] = sum_bhw g[b,h,w,f] x[b,hS+p-top,wT+q-left,c]

    Raises:
        ValueError: the images have not C channels, or no window fits into the padded image.
    """
    strides = pair(strides, "strides")
    check_channels(images, kernel)
    paddings(images, kernel.shape[:2], strides, padding)
    options = {"strides": (1, *strides, 1), "padding": "EXPLICIT"}
    if isinstance(padding, str):
        options["padding"] = padding.upper()
    else:
        options["explicit_paddings"] = (0, 0, *padding[0], *padding[1], 0, 0)

    @tf.custom_gradient
    def product(images, kernel):
        def gradient(g):
            return (
                tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(images), filter=kernel, out_backprop=g, **options),
                tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=tf.shape(kernel), out_backprop=g, **options),
            )

        return tf.raw_ops.Conv2D(input=images, filter=kernel, **options), gradient

    return product(images, kernel)
