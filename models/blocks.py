"""Residual blocks and sandwiches, made of the layers of this package."""

import keras
import tensorflow as tf

from models.gradients.batch_normalization import statistics_dtype
from models.gradients.bottleneck_block import bottleneck_block
from models.gradients.normalized_convolution import Weights
from models.gradients.residual_block import residual_block
from models.layers import Activation, BatchNormalization, Convolution, MaxPooling, register


class Block(keras.layers.Layer):
    """y = ReLU(F(x) + S(x)): a branch F of convolutions and a shortcut S, which is x itself or a projection of it

    S is a 1x1 convolution with the block's strides where the shape of the outputs is not that of the inputs. Each
    convolution is followed by batch normalization, or has a bias instead, and all but the last of F by a ReLU too.

    Args:
        filters: F, the channels of the outputs.
        strides: (S, T), or one int for both.
        batch_norm: whether the block normalizes.
        fused: whether training computes the block as one operation, which keeps fewer activations for the gradient.
            Else, and without normalization, it is the composition of its layers. Values and gradients are the same.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: the inputs do not have the channels that the block was built for.
    """

    def __init__(self, filters, strides=1, batch_norm=True, fused=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
        self.batch_norm = batch_norm
        self.fused = fused
        self.convolutions = [
            self._convolution(name, width, size, stride) for name, width, size, stride in self.branch_convolutions()
        ]
        self.norms = [self._norm(f"norm_{number}") for number in range(1, len(self.convolutions) + 1)]
        self.projection = self._convolution("projection", filters, 1, self.strides)
        self.projection_norm = self._norm("projection_norm")
        self.relu = Activation("relu", dtype=self.dtype_policy, name="relu")

    def branch_convolutions(self):
        """(name, filters, kernel size, strides) of each convolution of F."""
        raise NotImplementedError

    def _convolution(self, name, filters, size, strides):
        return Convolution(filters, size, strides, use_bias=not self.batch_norm, dtype=self.dtype_policy, name=name)

    def _norm(self, name):
        return BatchNormalization(dtype=self.dtype_policy, name=name) if self.batch_norm else None

    def build(self, input_shape):
        """Makes the weights for inputs of the given shape."""
        shape = tuple(input_shape)
        self.projects = shape[-1] != self.filters or self.strides != (1, 1)
        if self.projects:
            self._build_pair(self.projection, self.projection_norm, shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            shape = self._build_pair(convolution, norm, shape)

    @staticmethod
    def _build_pair(convolution, norm, shape):
        convolution.build(shape)
        shape = (*shape[:-1], convolution.filters)
        if norm is not None:
            norm.build(shape)
        return shape

    def call(self, inputs, training=False):
        """(B, H/S, W/T, F), rounded up."""
        if training and self.fused and self.batch_norm:
            return self.fusion(inputs)
        return self.composition(inputs, training)

    def fusion(self, inputs):
        """The block in training as one operation; the moving statistics take a step."""
        convolutions, norms = [*self.convolutions], [*self.norms]
        if self.projects:
            convolutions, norms = [*convolutions, self.projection], [*norms, self.projection_norm]
        dtype = statistics_dtype(inputs)
        weights = [
            Weights(convolution.kernel_for(inputs), tf.cast(norm.gamma, dtype), tf.cast(norm.beta, dtype))
            for convolution, norm in zip(convolutions, norms, strict=True)
        ]
        if not self.projects:
            weights.append(None)
        outputs, statistics = self.operation(inputs, *weights, self.strides, self.norms[0].epsilon)
        for norm, (mean, variance) in zip(norms, statistics, strict=True):
            norm.follow(mean, variance)
        return outputs

    def composition(self, inputs, training):
        """The block as the plain composition of its layers."""
        branch = inputs
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            branch = self._normalized(convolution(self.relu(branch) if number else branch), norm, training)
        shortcut = inputs
        if self.projects:
            shortcut = self._normalized(self.projection(inputs), self.projection_norm, training)
        return self.relu(branch + shortcut)

    @staticmethod
    def _normalized(features, norm, training):
        return features if norm is None else norm(features, training=training)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "batch_norm": self.batch_norm,
            "fused": self.fused,
        }


@register
class ResidualBlock(Block):
    """The basic residual block (He et al. 2015, fig. 5 left): F is two 3x3 convolutions, the first with the strides.

    See `Block` for the arguments.
    """

    operation = staticmethod(residual_block)

    def branch_convolutions(self):
        """(name, filters, kernel size, strides) of each convolution of F."""
        return (
            ("convolution_1", self.filters, 3, self.strides),
            ("convolution_2", self.filters, 3, 1),
        )


@register
class BottleneckBlock(Block):
    """The bottleneck block (He et al. 2015, fig. 5 right): 1x1 to a quarter of the filters, 3x3 there, 1x1 back.

    The 3x3 convolution has the strides. See `Block` for the arguments.

    Raises:
        ValueError: 4 does not divide the filters.
    """

    operation = staticmethod(bottleneck_block)

    def branch_convolutions(self):
        """(name, filters, kernel size, strides) of each convolution of F."""
        if self.filters % 4:
            raise ValueError(f"the filters of a bottleneck block must be divisible by 4, got {self.filters}")
        return (
            ("convolution_1", self.filters // 4, 1, 1),
            ("convolution_2", self.filters // 4, 3, self.strides),
            ("convolution_3", self.filters, 1, 1),
        )


def convolution_relu(filters, kernel_size=3, strides=1, name=None):
    """The sandwich conv -> ReLU as a `keras.Sequential`."""
    return keras.Sequential([Convolution(filters, kernel_size, strides=strides), Activation("relu")], name=name)


def convolution_relu_pool(filters, kernel_size=3, strides=1, pool_size=2, name=None):
    """The sandwich conv -> ReLU -> max pool as a `keras.Sequential`."""
    layers = [Convolution(filters, kernel_size, strides=strides), Activation("relu"), MaxPooling(pool_size)]
    return keras.Sequential(layers, name=name)
