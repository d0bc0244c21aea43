"""The convolution as a sum of PQ products, one for each place in the window, of the image shifted to that place.

With s_pq[b,h,w,c] = x[b,hS+p-top,wT+q-left,c], what all windows see at (p,q), and K_pq (C, F):
    y = sum_pq s_pq K_pq
With g = dL/dy, the axes b, h, w as rows:
    1. dL/ds_pq = g K_pq^T, and s_pq is a shifted copy of x. The transpose of shifting is shifting back: what stands at
       [b,h,w,c] goes to where it was seen, [b,hS+p-top,wT+q-left,c], among zeros.
    2. dL/dx = sum_pq shifted_back_pq(g K_pq^T), the sum of the products shifted back.
    3. dL/dK_pq = s_pq^T g. Nothing is summed over p and q, so nothing is rounded between the products.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.gradients.windows import Length, Padding, add, dimensions, rows, windows_on


def forward(images: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: Padding) -> tf.Tensor:
    """y, (B, H', W', F); the arguments are those of `models.gradients.convolution.convolution`."""
    windows = windows_on(dimensions(images), kernel.shape[:2], strides, padding)
    padded = windows.pad(images)
    products = [tf.matmul(rows(windows.take(padded, place)), kernel[place]) for place in windows.places]
    return tf.reshape(add(products), (-1, *windows.output, kernel.shape[3]))


def images_gradient(
    g: tf.Tensor, kernel: tf.Tensor, shape: Sequence[Length], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dx, of the shape given."""
    windows = windows_on(shape, kernel.shape[:2], strides, padding)
    products = []
    for place in windows.places:
        product = tf.matmul(rows(g), kernel[place], transpose_b=True)
        seen = tf.reshape(product, (-1, *windows.output, kernel.shape[2]))
        products.append(windows.put_back(seen, place))
    return windows.crop(add(products))


def kernel_gradient(
    images: tf.Tensor, g: tf.Tensor, shape: tuple[int, int, int, int], strides: tuple[int, int], padding: Padding
) -> tf.Tensor:
    """dL/dK, of the shape given."""
    windows = windows_on(dimensions(images), shape[:2], strides, padding)
    padded = windows.pad(images)
    products = [tf.matmul(rows(windows.take(padded, place)), rows(g), transpose_a=True) for place in windows.places]
    return tf.reshape(tf.stack(products), shape)
