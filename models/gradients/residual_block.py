"""The basic residual block as one operation, which keeps little and computes the rest again."""

import tensorflow as tf

from models.gradients.activations import relu_gradient
from models.gradients.normalized_convolution import NormalizedConvolution, Weights
from models.gradients.shortcut import Shortcut, Statistics, check_block, delay_until, outputs_and_statistics


def residual_block(
    images: tf.Tensor,
    first: Weights,
    second: Weights,
    projection: Weights | None,
    strides: tuple[int, int],
    epsilon: float,
) -> tuple[tf.Tensor, Statistics]:
    """y = ReLU(BN(conv(ReLU(BN(conv(x, K1))), K2)) + S(x)) in training (He et al. 2015, fig. 5 left)

    S(x) is x, or BN of a projection of x by a 1x1 kernel. conv has "same" padding.

    Args:
        images: x, (B, H, W, C).
        first: `Weights` of K1, (P, Q, C, F).
        second: `Weights` of K2, (P', Q', F, F).
        projection: `Weights` of the 1x1 kernel, (1, 1, C, F), or None, where C = F and the strides are 1.
        strides: (S, T), of K1 and of the projection.
        epsilon: of the normalizations.

    Returns:
        (y, statistics): y, (B, H/S, W/T, F), rounded up; and a tuple of (mean, biased variance) of each normalization
        in the order of the arguments, constants through which no gradient flows.

    Raises:
        ValueError: the kernels do not take the channels that they get.

    Forward, with the convolutions' outputs z1, z2 and u = BN(z2) + S(x):
        z1 = conv(x, K1)     r1 = ReLU(BN(z1))     z2 = conv(r1, K2)     y = ReLU(u)
    Kept are x, z1, z2 and y, which the next layer keeps anyway. The plain composition keeps r1, the outputs of the
    normalizations and those of the projection as well.
    Backward, with g = dL/dy:
        1. r1 is computed again: a sweep over memory, which is little beside six convolutions. So is the projection of
           x, whose 1x1 kernel is a ninth of the work of a 3x3 kernel or less.
        2. h = dL/du = g where u > 0, which is where y > 0, else 0. A sum hands its gradient to both terms: to BN(z2)
           and to S(x).
        3. BN and conv by their own gradients, from K2 down to K1, the ReLU between them as in line 2.
        4. dL/dx is the sum of what comes down the branch and the shortcut.
    """
    check_block(images, (first, second), projection, strides)

    @tf.custom_gradient
    def block(x, *tensors):
        lower = NormalizedConvolution(Weights(*tensors[0:3]), strides, epsilon)
        upper = NormalizedConvolution(Weights(*tensors[3:6]), (1, 1), epsilon)
        shortcut = Shortcut(tensors[6:], strides, epsilon)
        z1 = lower.convolve(x)
        z2 = upper.convolve(tf.nn.relu(lower.normalize(z1)))
        outputs = tf.nn.relu(upper.normalize(z2) + shortcut.forward(x))

        def gradient(g, *_statistics_gradients):
            (kept_z1,) = delay_until(g, [z1])
            r1 = tf.nn.relu(lower.normalize_again(kept_z1))
            h = relu_gradient(g, outputs)
            dr1, second_gradients = upper.gradient(h, r1, z2)
            dx, first_gradients = lower.gradient(relu_gradient(dr1, r1), x, z1)
            dx_shortcut, projection_gradients = shortcut.gradient(h, x)
            return dx + dx_shortcut, *first_gradients, *second_gradients, *projection_gradients

        return (outputs, *lower.statistics, *upper.statistics, *shortcut.statistics), gradient

    return outputs_and_statistics(block(images, *first, *second, *(projection or ())))
