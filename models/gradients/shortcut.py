"""What the residual blocks share: the shortcut beside the convolutions, its checks, what is kept for the gradient."""

from collections.abc import Sequence

import tensorflow as tf

from models.gradients.normalized_convolution import NormalizedProjection, Weights

Statistics = tuple[tuple[tf.Tensor, tf.Tensor], ...]


class Shortcut:
    """S(x): x itself where there are no weights, else BN(conv(x, K)), which keeps nothing but x for its gradient.

    Args:
        weights: K, gamma, beta, or nothing.
        strides: (S, T).
        epsilon: of the normalization.
    """

    def __init__(self, weights: Sequence[tf.Tensor], strides: tuple[int, int], epsilon: float):
        self.projection = NormalizedProjection(Weights(*weights), strides, epsilon) if weights else None
        self.statistics: tuple[tf.Tensor, ...] = ()

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """S(x); the batch's statistics are kept in this object."""
        if not self.projection:
            return x
        outputs = self.projection.forward(x)
        self.statistics = self.projection.statistics
        return outputs

    def gradient(self, h: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """(dL/dx, the gradients of the weights) of h = dL/dS."""
        if not self.projection:
            return h, ()
        (kept_x,) = delay_until(h, [x])
        return self.projection.gradient_of(h, kept_x)


def delay_until(g: tf.Tensor, kept: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The tensors `kept`, available only once `g` is.

    Without this the graph's optimizer finds that what is computed again has been computed before, and keeps that.
    """
    with tf.control_dependencies([g]):
        return [tf.identity(tensor) for tensor in kept]


def outputs_and_statistics(flat: Sequence[tf.Tensor]) -> tuple[tf.Tensor, Statistics]:
    """(y, ((mean, variance), ...)) of (y, mean, variance, ...)."""
    outputs, *statistics = flat
    return outputs, tuple(zip(statistics[::2], statistics[1::2], strict=True))


def check_block(
    images: tf.Tensor, branch: Sequence[Weights], projection: Weights | None, strides: tuple[int, int]
) -> None:
    """Raises ValueError unless the kernels of a block fit its images and each other."""
    channels = images.shape[-1]
    for weights in branch:
        _check_kernel(weights, channels)
        channels = weights.kernel.shape[-1]
    if projection is not None:
        _check_kernel(projection, images.shape[-1])
        if projection.kernel.shape[-1] != channels:
            raise ValueError(
                f"the projection has {projection.kernel.shape[-1]} filters, "
                f"but the branch it is added to has {channels}"
            )
    elif images.shape[-1] != channels or tuple(strides) != (1, 1):
        raise ValueError(
            f"images of {images.shape[-1]} channels cannot be added to a branch of {channels} filters with strides "
            f"{tuple(strides)}: give a projection"
        )


def _check_kernel(weights: Weights, channels: int) -> None:
    if weights.kernel.shape[2] != channels:
        raise ValueError(
            f"inputs have {channels} channels, but the kernel of shape {tuple(weights.kernel.shape)} takes "
            f"{weights.kernel.shape[2]}"
        )
