"""The convolution, in whichever way is the fastest: see benchmarks/convolution.py for the figures behind the choice."""

from types import ModuleType

import tensorflow as tf

from models.gradients.convolution_by import primitives, shifted_products, unfold
from models.gradients.patchify import patchify
from models.gradients.windows import Padding, Windows, check_channels, dimensions, pair, windows_on

METHODS: dict[str, ModuleType] = {"primitives": primitives, "unfold": unfold, "shifted": shifted_products}


def convolution(
    images: tf.Tensor,
    kernel: tf.Tensor,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "same",
    method: str = "auto",
) -> tf.Tensor:
    """y[b,h,w,f] = sum_pqc x[b,hS+p-top,wT+q-left,c] K[p,q,c,f], x being 0 outside of the images

    Args:
        images: x, (B, H, W, C).
        kernel: K, (P, Q, C, F), a tensor of the dtype of `images`.
        strides: (S, T), or one int for both.
        padding: "same", "valid", or ((top, bottom), (left, right)).
        method: "unfold", "shifted" or "primitives", all of which compute the same; or "auto", the fastest for each of
            forward, dL/dx and dL/dK. Its choice depends on shapes and dtype alone, so a run that is resumed repeats it.

    Returns:
        y, (B, H', W', F), H' = floor((H + top + bottom - P) / S) + 1. With g = dL/dy:
            dL/dx[b,i,j,c] = sum_hwpqf g[b,h,w,f] K[p,q,c,f] [hS+p-top = i] [wT+q-left = j]
            dL/dK[p,q,c,f] = sum_bhw   g[b,h,w,f] x[b,hS+p-top,wT+q-left,c]

    Raises:
        ValueError: the images have not C channels, no window fits into the padded images, or there is no such method.
    """
    strides = pair(strides, "strides")
    check_channels(images.shape, kernel.shape)
    windows = windows_on(dimensions(images), kernel.shape[:2], strides, padding)
    if method == "auto":
        if _tiles(windows):
            return patchify(images, kernel)
        forward, by_images, by_kernel = fastest(windows, kernel)
    elif method in METHODS:
        forward = by_images = by_kernel = METHODS[method]
    else:
        raise ValueError(f'method must be "auto" or one of {", ".join(METHODS)}, got {method!r}')
    if padding != "same":
        images = windows.fit(images)
    padding = _name(windows, padding)

    @tf.custom_gradient
    def product(images, kernel):
        shape = dimensions(images)

        def gradient(g):
            return (
                by_images.images_gradient(g, kernel, shape, strides, padding),
                by_kernel.kernel_gradient(images, g, kernel.shape, strides, padding),
            )

        return forward.forward(images, kernel, strides, padding), gradient

    return product(images, kernel)


def _tiles(windows: Windows) -> bool:
    """Whether the windows are square tiles that cover the images once: then a convolution is `patchify`."""
    (height, width), size = windows.image, windows.size
    known = isinstance(height, int) and isinstance(width, int)
    return (
        size == windows.strides
        and size[0] == size[1]
        and not windows.is_padded
        and (size == (1, 1) or (known and height % size[0] == 0 and width % size[1] == 0))
    )


def fastest(windows: Windows, kernel: tf.Tensor) -> tuple[ModuleType, ModuleType, ModuleType]:
    """The modules for forward, dL/dx and dL/dK.

    oneDNN's primitives win nearly everywhere. The exception is dL/dK in bfloat16, for many channels on small images:
    there the shifted products take 0.3 to 0.9 of their time.
    """
    small = all(isinstance(length, int) and length <= 16 for length in windows.output)
    wide = min(kernel.shape[2:]) >= 192
    if kernel.dtype == tf.bfloat16 and windows.strides == (1, 1) and small and wide:
        return primitives, primitives, shifted_products
    return primitives, primitives, primitives


def _name(windows: Windows, padding: Padding) -> Padding:
    """The padding's name, "same" or "valid", if it has one: the primitives are fast only with a name."""
    if not windows.is_padded:
        return "valid"
    if (
        windows.strides == (1, 1)
        and windows.padding == windows_on((None, *windows.image), windows.size, (1, 1), "same").padding
    ):
        return "same"
    return padding
