"""The bottleneck block as one operation, which keeps little and computes the rest again."""

import tensorflow as tf

from models.gradients.activations import relu_gradient
from models.gradients.normalized_convolution import NormalizedConvolution, NormalizedProjection, Weights
from models.gradients.shortcut import Shortcut, Statistics, check_block, delay_until, outputs_and_statistics


def bottleneck_block(
    images: tf.Tensor,
    first: Weights,
    second: Weights,
    third: Weights,
    projection: Weights | None,
    strides: tuple[int, int],
    epsilon: float,
) -> tuple[tf.Tensor, Statistics]:
    """y = ReLU(BN(conv(r2, K3)) + S(x)), r2 = ReLU(BN(conv(r1, K2))), r1 = ReLU(BN(conv(x, K1))), in training

    The bottleneck of He et al. 2015, fig. 5 right: K1 reduces the channels to D, K2 works there, K3 brings them back.
    S(x) is x, or BN of a projection of x by a 1x1 kernel. conv has "same" padding. There are seven parameters because
    they are those of `models.gradients.residual_block.residual_block` and one convolution more.

    Args:
        images: x, (B, H, W, C).
        first: `Weights` of K1, (1, 1, C, D).
        second: `Weights` of K2, (P, Q, D, D).
        third: `Weights` of K3, (1, 1, D, F).
        projection: `Weights` of the 1x1 kernel, (1, 1, C, F), or None, where C = F and the strides are 1.
        strides: (S, T), of K2 and of the projection.
        epsilon: of the normalizations.

    Returns:
        (y, statistics), as `models.gradients.residual_block.residual_block` has them.

    Raises:
        ValueError: the kernels do not take the channels that they get.

    Forward, with the convolutions' outputs z1, z2:
        z1 = conv(x, K1)     r1 = ReLU(BN(z1))     z2 = conv(r1, K2)     r2 = ReLU(BN(z2))
        u = BN(conv(r2, K3)) + S(x)     y = ReLU(u)
    Kept are x, the narrow z1 and z2, and y, which the next layer keeps anyway; the plain composition keeps r1, r2, the
    wide conv(r2, K3) and what a projection gives as well. Backward as in `residual_block`: r1, r2, and by one product
    conv(r2, K3), are computed again.
    """
    check_block(images, (first, second, third), projection, strides)

    @tf.custom_gradient
    def block(x, *tensors):
        lower = NormalizedConvolution(Weights(*tensors[0:3]), (1, 1), epsilon)
        middle = NormalizedConvolution(Weights(*tensors[3:6]), strides, epsilon)
        upper = NormalizedProjection(Weights(*tensors[6:9]), (1, 1), epsilon)
        shortcut = Shortcut(tensors[9:], strides, epsilon)
        z1 = lower.convolve(x)
        z2 = middle.convolve(tf.nn.relu(lower.normalize(z1)))
        r2 = tf.nn.relu(middle.normalize(z2))
        outputs = tf.nn.relu(upper.forward(r2) + shortcut.forward(x))

        def gradient(g, *_statistics_gradients):
            kept_z1, kept_z2 = delay_until(g, (z1, z2))
            r1 = tf.nn.relu(lower.normalize_again(kept_z1))
            r2 = tf.nn.relu(middle.normalize_again(kept_z2))
            h = relu_gradient(g, outputs)
            dr2, third_gradients = upper.gradient_of(h, r2)
            dr1, second_gradients = middle.gradient(relu_gradient(dr2, r2), r1, z2)
            dx, first_gradients = lower.gradient(relu_gradient(dr1, r1), x, z1)
            dx_shortcut, projection_gradients = shortcut.gradient(h, x)
            weights_gradients = (*first_gradients, *second_gradients, *third_gradients, *projection_gradients)
            return dx + dx_shortcut, *weights_gradients

        statistics = (*lower.statistics, *middle.statistics, *upper.statistics, *shortcut.statistics)
        return (outputs, *statistics), gradient

    return outputs_and_statistics(block(images, *first, *second, *third, *(projection or ())))
