"""The patch embedding: a convolution whose stride is its width, as one product over the whole batch.

Nothing is gathered. The pixels of a patch are already near each other in memory: each of its P rows is a run of PC
numbers. So M_X, the matrix with a row per patch, is a reshape and one transposition that moves whole runs:

    (B, H, W, C) = (B, H/P, P, W/P, PC)  --swap P and W/P-->  (B, H/P, W/P, P, PC) = (B, N, PPC) = M_X

The order of vec follows from it. A row of M_X is a patch; patches go row by row over the image. A column is (p, q, c):
the row in the patch slowest, the channel fastest. A kernel (P, P, C, F) has the same order, so F_all, which is the
kernel as (PPC, F), is the same numbers in the same order.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.gradients.convolution_by import primitives
from models.gradients.windows import Length, check_channels, dimensions, rows


def patches(images: tf.Tensor, size: int) -> tf.Tensor:
    """M_X[b, h W/P + w, (pP + q)C + c] = x[b,hP+p,wP+q,c]

    Args:
        images: x, (B, H, W, C), any dtype; P divides H and W.
        size: P.

    Returns:
        M_X, (B, (H/P)(W/P), PPC), of the dtype of `images`.

    Raises:
        ValueError: P does not divide H or W.
    """
    check_tiles(images.shape, size)
    _, height, width, channels = dimensions(images)
    blocks = tf.reshape(images, (-1, size, width // size, size * channels))
    blocks = tf.transpose(blocks, (0, 2, 1, 3))
    return tf.reshape(blocks, (-1, (height // size) * (width // size), size * size * channels))


def images_of(patches: tf.Tensor, height: Length, width: Length, size: int) -> tf.Tensor:
    """x, the inverse of `patches`: every pixel goes back to where it came from.

    Args:
        patches: M_X, (B, (H/P)(W/P), PPC), or the same rows as (BN, PPC).
        height: H.
        width: W.
        size: P.

    Returns:
        x, (B, H, W, C).
    """
    channels = patches.shape[-1] // size**2
    blocks = tf.reshape(patches, (-1, width // size, size, size * channels))
    blocks = tf.transpose(blocks, (0, 2, 1, 3))
    return tf.reshape(blocks, (-1, height, width, channels))


def patchify(images: tf.Tensor, kernel: tf.Tensor, input_gradient: bool = True) -> tf.Tensor:
    """y[b,h,w,f] = sum_pqc x[b,hP+p,wP+q,c] K[p,q,c,f]

    The patch embedding without bias: a convolution whose stride is its width.

    Args:
        images: x, (B, H, W, C); P divides H and W.
        kernel: K, (P, P, C, F), a tensor of the dtype of `images`.
        input_gradient: False for a first layer, whose inputs are data: then dL/dx is None and never computed.

    Returns:
        y, (B, H/P, W/P, F). With g = dL/dy:
            dL/dx[b,hP+p,wP+q,c] = sum_f   g[b,h,w,f] K[p,q,c,f]
            dL/dK[p,q,c,f]       = sum_bhw g[b,h,w,f] x[b,hP+p,wP+q,c]

    Raises:
        ValueError: P does not divide H or W, or the images have not C channels.
    """
    check_channels(images.shape, kernel.shape)
    size = _patch_size(kernel)
    check_tiles(images.shape, size)
    _, height, width, _ = dimensions(images)
    product = _product_in_place if _reads_in_place(images, size) else _product

    # 1. y = M_X F_all is a product, so with G = g as (BN, F):  dL/dF_all = M_X^T G  and  dL/dM_X = G F_all^T.
    # 2. M_X holds every pixel once, so dL/dx is dL/dM_X with its elements put back where they came from: no sum.
    # 3. Where L is a mean over the batch, g carries its 1/B, and so do both gradients.
    @tf.custom_gradient
    def embedded(images, kernel):
        features, kernel_gradient = product(images, kernel)

        def gradient(g):
            if not input_gradient:
                return None, kernel_gradient(g)
            pixels = tf.matmul(rows(g), rows(kernel), transpose_b=True)
            return images_of(pixels, height, width, size), kernel_gradient(g)

        return features, gradient

    return embedded(images, kernel)


def _product(images, kernel):
    """y = M_X F_all and the function g -> dL/dF_all = M_X^T G; M_X is kept for it.

    With patches of 2 M_X is so narrow that the primitive's dL/dK takes less time, and M_X is not kept.
    """
    size = kernel.shape[0]
    _, height, width, _ = dimensions(images)
    matrix = rows(patches(images, size))
    features = tf.reshape(tf.matmul(matrix, rows(kernel)), (-1, height // size, width // size, kernel.shape[-1]))
    if size == 2:
        return features, _kernel_gradient_in_place(images, kernel)
    return features, lambda g: tf.reshape(_product_of_rows(matrix, rows(g)), kernel.shape)


def _product_of_rows(left, right):
    """left^T right; as (right^T left)^T where right is the narrower factor, which takes less time."""
    if right.shape[-1] < left.shape[-1]:
        return tf.transpose(tf.matmul(right, left, transpose_a=True))
    return tf.matmul(left, right, transpose_a=True)


def _product_in_place(images, kernel):
    """The same two products by TensorFlow's primitives, which read the patches where they lie and build no M_X."""
    features = primitives.forward(images, kernel, kernel.shape[:2], "valid")
    return features, _kernel_gradient_in_place(images, kernel)


def _kernel_gradient_in_place(images, kernel):
    return lambda g: primitives.kernel_gradient(images, g, kernel.shape, kernel.shape[:2], "valid")


def _reads_in_place(images, size):
    """Whether to leave M_X out: for small patches of large images.

    There the products are bound by memory, and M_X is one more trip to it: dL/dK with it takes up to 1.5 times as long.
    With patches of 16 it is the primitive that takes 2 to 4 times as long. See benchmarks/patchify.py.
    """
    height, width = images.shape[1:3]
    return None not in (height, width) and height * width > 32 * 32 and size < 16


@tf.custom_gradient
def patches_product(patches: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """y[b,n,f] = sum_m M_X[b,n,m] F_all[m,f], where the patches are data: no gradient goes through them

    Args:
        patches: M_X, (B, N, PPC), as `patches` makes it.
        kernel: K, (P, P, C, F), a tensor of the dtype of `patches`; F_all is its reshape to (PPC, F).

    Returns:
        y, (B, N, F). With g = dL/dy: dL/dF_all[m,f] = sum_bn M_X[b,n,m] g[b,n,f]; None for M_X.

    Raises:
        ValueError: the patches' length is not PPC.
    """
    taken = kernel.shape[0] * kernel.shape[1] * kernel.shape[2]
    if patches.shape[-1] != taken:
        raise ValueError(
            f"patches have {patches.shape[-1]} numbers, but the kernel of shape {tuple(kernel.shape)} takes {taken}"
        )
    matrix = rows(patches)

    def gradient(g):
        return None, tf.reshape(_product_of_rows(matrix, rows(g)), kernel.shape)

    return tf.reshape(tf.matmul(matrix, rows(kernel)), (-1, dimensions(patches)[1], kernel.shape[-1])), gradient


def _patch_size(kernel):
    """P of a kernel (P, P, C, F)."""
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"a patch is square, but the kernel has shape {tuple(kernel.shape)}")
    return kernel.shape[0]


def check_tiles(shape: Sequence[int | None], size: int) -> None:
    """Raises ValueError unless patches of (P, P) tile images of the shape (B, H, W, C); H and W may be None."""
    for length in shape[1:3]:
        if length is not None and length % size:
            raise ValueError(f"patches of {size}x{size} do not tile images of shape {tuple(shape)}")
