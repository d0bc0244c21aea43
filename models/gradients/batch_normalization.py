"""Batch normalization in training and in inference, each with its gradient, and the forms that residual blocks need."""

import tensorflow as tf

from models.gradients.replicas import count_replicas, sum_over_replicas

# These types have a kernel that takes statistics and gradients in one sweep, in float32 inside.
KERNEL_DTYPES = (tf.float32, tf.bfloat16, tf.float16)

Residuals = tuple[tf.Tensor, ...]


def statistics_dtype(inputs: tf.Tensor) -> tf.DType:
    """The type of gamma, beta and the statistics: float64 for float64 inputs, else float32."""
    return tf.float64 if inputs.dtype == tf.float64 else tf.float32


def batch_normalization(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """y = gamma x̂ + beta with x̂ = (x - mu) / sqrt(v + epsilon): what training computes (Ioffe and Szegedy 2015)

    The mean mu and the biased variance v of each channel are taken over the n entries that the other axes span, of the
    whole batch where replicas share it (`batch_gradient` has what follows for the gradients).

    Args:
        inputs: x, (..., C), a float tensor of any rank.
        gamma: (C,), of `statistics_dtype(inputs)`.
        beta: (C,), like `gamma`.
        epsilon: a float above 0.

    Returns:
        (y, mu, v): y has the shape and type of x. mu and v, (C,) of the type of gamma, are for the moving statistics:
        as constants, no gradient flows through them. With g = dL/dy, r = 1 / sqrt(v + epsilon), sums over n:
            dL/dbeta  = sum g
            dL/dgamma = sum g x̂
            dL/dx     = gamma r (g - 1/n sum g - x̂ 1/n sum g x̂)

    Raises:
        ValueError: gamma or beta does not have one entry per channel.
    """
    check_channels(inputs, gamma, beta)

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        outputs, residuals = normalize_by_batch(x, gamma, beta, epsilon)
        mean, variance = batch_statistics(x, residuals)

        def gradient(outputs_gradient, _mean_gradient, _variance_gradient):
            return batch_gradient(outputs_gradient, x, gamma, residuals, epsilon)

        return (outputs, mean, variance), gradient

    return normalize(inputs, gamma, beta)


def fixed_normalization(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """y = gamma (x - mu) / sqrt(v + epsilon) + beta with given mu and v: what inference computes

    Args:
        inputs: x, (..., C), a float tensor of any rank.
        gamma: (C,), of `statistics_dtype(inputs)`.
        beta: (C,), like `gamma`.
        mean: mu, (C,), like `gamma`.
        variance: v, (C,), like `gamma`.
        epsilon: a float above 0.

    Returns:
        y, of the shape and type of x. With g = dL/dy, r = 1 / sqrt(v + epsilon), sums over all but the channels:
            dL/dx     = gamma r g
            dL/dbeta  = sum g
            dL/dgamma = sum g x̂
            dL/dmu    = -gamma r sum g
            dL/dv     = -1/2 gamma r^2 sum g x̂         as dx̂/dv = (x - mu) dr/dv = -1/2 r^2 x̂

    Raises:
        ValueError: gamma or beta does not have one entry per channel.
    """
    check_channels(inputs, gamma, beta)

    @tf.custom_gradient
    def normalize(x, gamma, beta, mean, variance):
        def gradient(g):
            r = tf.math.rsqrt(variance + epsilon)
            dbeta = channel_sum(g)
            dgamma = r * _centered_product_sum(g, x, mean)
            dx = g * tf.cast(gamma * r, g.dtype)
            return dx, dgamma, dbeta, -gamma * r * dbeta, -gamma * r**2 / 2 * dgamma

        return normalize_by_statistics(x, gamma, beta, mean, variance, epsilon), gradient

    return normalize(inputs, gamma, beta, mean, variance)


def normalize_by_batch(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, Residuals]:
    """The forward pass of training.

    Returns:
        (y, residuals): y as `batch_normalization` has it, and the small tensors that the other functions of this file
        take as `residuals`: (mu, v), or what a kernel gives, whose meaning is its own: on a GPU it is not that on a
        CPU. No kernel knows of other replicas, so that where there are some, mu and v are taken here:
            mu = 1/n sum over replicas of sum x     v = 1/n sum over replicas of sum (x - mu)^2
        one after the other, as sum x^2 - n mu^2 would cancel where |mu| is large.
    """
    if x.dtype not in KERNEL_DTYPES or count_replicas() > 1:
        (total,) = sum_over_replicas([channel_sum(x)])
        mean = total / _entries(x)
        squares = tf.math.squared_difference(tf.cast(x, mean.dtype), mean)
        (total,) = sum_over_replicas([channel_sum(squares)])
        variance = total / _entries(x)
        return normalize_by_statistics(x, gamma, beta, mean, variance, epsilon), (mean, variance)
    nothing = tf.zeros((0,), gamma.dtype)
    y, *residuals = tf.raw_ops.FusedBatchNormV3(
        x=_as_images(x), scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True
    )
    return _in_shape_of(y, x), tuple(residuals)


def batch_statistics(x: tf.Tensor, residuals: Residuals) -> tuple[tf.Tensor, tf.Tensor]:
    """(mu, v), the mean and the biased variance that `normalize_by_batch` took."""
    if _are_statistics(residuals):
        mean, variance = residuals
        return mean, variance
    # The kernel gives the unbiased variance, over n - 1 (but over 1 where n = 1).
    n = _entries(x)
    return residuals[0], residuals[1] * (tf.maximum(n - 1, 1) / n)


def normalize_by_statistics(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """y = gamma (x - mu) / sqrt(v + epsilon) + beta, in one sweep."""
    if x.dtype not in KERNEL_DTYPES:
        return (x - mean) * (gamma * tf.math.rsqrt(variance + epsilon)) + beta
    y = tf.raw_ops.FusedBatchNormV3(
        x=_as_images(x), scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
    ).y
    return _in_shape_of(y, x)


def batch_gradient(
    g: tf.Tensor, x: tf.Tensor, gamma: tf.Tensor, residuals: Residuals, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(dL/dx, dL/dgamma, dL/dbeta) of `batch_normalization`, in the compact form.

    Args:
        g: dL/dy, of the shape and type of `x`.
        x: (..., C).
        gamma: (C,).
        residuals: what `normalize_by_batch` gave.
        epsilon: as in the forward pass.

    x reaches the loss by three roads: x̂ itself, mu and v. With h = dL/dx̂ = gamma g:
        1.  dL/dv  = sum h (x - mu) (-1/2 r^3)                      as dr/dv = -1/2 r^3
                   = -1/2 r^2 sum h x̂                               as (x - mu) r = x̂
        2.  dL/dmu = -r sum h + dL/dv (-2/n) sum (x - mu)
                   = -r sum h                                       as the deviations of a channel sum to 0
        3.  dL/dx  = r h + dL/dv 2/n (x - mu) + 1/n dL/dmu          as dv/dx = 2/n (x - mu) and dmu/dx = 1/n
                   = r h - r/n x̂ sum h x̂ - r/n sum h                as r^2 (x - mu) = r x̂
                   = gamma r (g - 1/n sum g - x̂ 1/n sum g x̂)
    Nothing of the size of x is needed but x and g, and the two sums are the gradients of beta and gamma. A channel's
    row of dL/dx sums to 0 and is orthogonal to x̂: normalization throws the mean and the scale of x away.

    Where replicas share the batch, n and the sums of lines 1 to 3 are over all of them: the x of one replica moves mu
    and v, and by these the outputs of every other. What comes back as dL/dgamma and dL/dbeta are the sums over this
    replica's entries alone, its share, as it is for all weights: the optimizer sums the shares.
    """
    if not _are_statistics(residuals):
        # The kernel computes line 3.
        images_gradient, dgamma, dbeta, *_ = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=_as_images(g),
            x=_as_images(x),
            scale=gamma,
            reserve_space_1=residuals[2],
            reserve_space_2=residuals[3],
            reserve_space_3=residuals[4],
            epsilon=epsilon,
            is_training=True,
        )
        return _in_shape_of(images_gradient, x), dgamma, dbeta
    mean, variance = residuals
    r, n = tf.math.rsqrt(variance + epsilon), _entries(x)
    dbeta = channel_sum(g)
    dgamma = r * _centered_product_sum(g, x, mean)
    sum_g, sum_gx = sum_over_replicas([dbeta, dgamma])
    # x̂ = r x - r mu: the terms of g, x and the constant, each with one factor per channel.
    slope, offset = gamma * r**2 * sum_gx / n, gamma * r * sum_g / n
    if x.dtype in KERNEL_DTYPES:  # As the kernel has it: centered first, where there are fewer digits.
        dx = tf.cast(g, mean.dtype) * (gamma * r) - (tf.cast(x, mean.dtype) - mean) * slope - offset
        return tf.cast(dx, x.dtype), dgamma, dbeta
    return g * (gamma * r) - x * slope + (slope * mean - offset), dgamma, dbeta


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """The sum over all axes but the last: (C,), float64 for float64 and float32 else."""
    # A product with a row of ones: TensorFlow's reduction over the outer axes takes more than twice as long.
    rows = tf.reshape(tf.cast(x, statistics_dtype(x)), (-1, x.shape[-1]))
    return tf.linalg.matvec(rows, tf.ones(tf.shape(rows)[:1], rows.dtype), transpose_a=True)


def check_channels(inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> None:
    """Raises ValueError unless `gamma` and `beta` have one entry per channel of `inputs`."""
    for name, vector in (("gamma", gamma), ("beta", beta)):
        if vector.shape[0] != inputs.shape[-1]:
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)} have {inputs.shape[-1]} channels, "
                f"but {name} has {vector.shape[0]}"
            )


def _centered_product_sum(g, x, mean):
    """sum g (x - mu): centered first, as sum g x - mu sum g would cancel where |mu| is large."""
    dtype = statistics_dtype(x)
    return channel_sum(tf.cast(g, dtype) * (tf.cast(x, dtype) - mean))


def _are_statistics(residuals):
    """Whether the residuals are (mu, v), not a kernel's own."""
    return len(residuals) == 2


def _entries(x):
    """n, the entries of a channel on all replicas, as a scalar of the statistics' type."""
    return tf.cast(tf.size(x) // x.shape[-1] * count_replicas(), statistics_dtype(x))


def _as_images(x):
    """x with four axes, which is what the kernels take."""
    return x if len(x.shape) == 4 else tf.reshape(x, (-1, 1, 1, x.shape[-1]))


def _in_shape_of(images, x):
    """What `_as_images` changed, changed back."""
    return images if len(x.shape) == 4 else tf.reshape(images, tf.shape(x))
