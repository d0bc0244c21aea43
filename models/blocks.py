"""Residual blocks and sandwiches, made of the layers of this package."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from models.gradients.batch_normalization import statistics_dtype
from models.gradients.bottleneck_block import bottleneck_block
from models.gradients.normalized_convolution import Weights
from models.gradients.residual_block import residual_block
from models.gradients.windows import output_lengths, pair, windows_on
from models.layers import Activation, BatchNormalization, Convolution, Layer, MaxPooling, Shape, register


class Block(Layer):
    """y = ReLU(F(x) + S(x)): a branch F of convolutions and a shortcut S, which is x itself or a projection of it

    S is a 1x1 convolution with the block's strides where the shape of the outputs is not that of the inputs. Each
    convolution is followed by batch normalization, or has a bias instead, and all but the last of F by a ReLU too.

    Args:
        filters: F, the channels of the outputs.
        strides: (S, T), or one int for both.
        batch_norm: whether the block normalizes.
        fused: whether training computes the block as one operation, which keeps fewer activations for the gradient.
            Else, and where a normalization is missing or frozen, it is the composition of its layers. Values and
            gradients are the same.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...

    Raises:
        ValueError: the inputs do not have the channels that the block was built for.
    """

    operation: Callable[..., tuple[tf.Tensor, Any]]
    """The block as one operation, of the inputs, the weights of F, those of S or None, the strides and epsilon."""

    def __init__(
        self,
        filters: int,
        strides: int | tuple[int, int] = 1,
        batch_norm: bool = True,
        fused: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = pair(strides, "strides")
        self.batch_norm = batch_norm
        self.fused = fused
        self.convolutions = [
            self._convolution(name, width, size, stride) for name, width, size, stride in self.branch_convolutions()
        ]
        self.norms = [self._norm(f"norm_{number}") for number in range(1, len(self.convolutions) + 1)]
        self.projection = self._convolution("projection", filters, 1, self.strides)
        self.projection_norm = self._norm("projection_norm")
        self.relu = Activation("relu", dtype=self.dtype_policy, name="relu")
        self.input_spec = keras.InputSpec(ndim=4)

    def branch_convolutions(self) -> tuple[tuple[str, int, int, int | tuple[int, int]], ...]:
        """(name, filters, kernel size, strides) of each convolution of F."""
        raise NotImplementedError

    def _convolution(self, name: str, filters: int, size: int, strides: int | tuple[int, int]) -> Convolution:
        return Convolution(filters, size, strides, use_bias=not self.batch_norm, dtype=self.dtype_policy, name=name)

    def _norm(self, name: str) -> BatchNormalization | None:
        return BatchNormalization(dtype=self.dtype_policy, name=name) if self.batch_norm else None

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for inputs of the given shape."""
        shape = tuple(input_shape)
        self.projects = shape[-1] != self.filters or self.strides != (1, 1)
        if self.projects:
            self._build_pair(self.projection, self.projection_norm, shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            shape = self._build_pair(convolution, norm, shape)

    @staticmethod
    def _build_pair(convolution: Convolution, norm: BatchNormalization | None, shape: Shape) -> Shape:
        convolution.build(shape)
        shape = (*shape[:-1], convolution.filters)
        if norm is not None:
            norm.build(shape)
        return shape

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(B, H/S, W/T, F), rounded up."""
        inputs = self.as_floats(inputs)
        norms = [norm for _, norm in self._stages() if norm is not None and norm.trainable]
        if training and self.fused and len(norms) == len(self._stages()):
            return self.fusion(inputs, norms)
        return self.composition(inputs, training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, H/S, W/T, F), rounded up."""
        self.convolutions[0].check_built_for(input_shape)
        return input_shape[0], *output_lengths(windows_on, input_shape, (1, 1), self.strides, "same"), self.filters

    def _stages(self) -> list[tuple[Convolution, BatchNormalization | None]]:
        """The convolutions of F, then the projection if there is one, each with its normalization."""
        branch = list(zip(self.convolutions, self.norms, strict=True))
        return [*branch, (self.projection, self.projection_norm)] if self.projects else branch

    def fusion(self, inputs: tf.Tensor, norms: Sequence[BatchNormalization]) -> tf.Tensor:
        """The block in training as one operation; the moving statistics take a step.

        Args:
            inputs: x.
            norms: the normalizations, all of which are there.
        """
        dtype = statistics_dtype(inputs)
        weights: list[Weights | None] = [
            Weights(convolution.kernel_for(inputs), tf.cast(norm.gamma, dtype), tf.cast(norm.beta, dtype))
            for (convolution, _), norm in zip(self._stages(), norms, strict=True)
        ]
        if not self.projects:
            weights.append(None)
        outputs, statistics = self.operation(inputs, *weights, self.strides, norms[0].epsilon)
        for norm, (mean, variance) in zip(norms, statistics, strict=True):
            norm.follow(mean, variance)
        return outputs

    def composition(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """The block as the plain composition of its layers."""
        branch = inputs
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            branch = self._normalize(convolution(self.relu(branch) if number else branch), norm, training)
        shortcut = inputs
        if self.projects:
            shortcut = self._normalize(self.projection(inputs), self.projection_norm, training)
        return self.relu(branch + shortcut)

    @staticmethod
    def _normalize(features: tf.Tensor, norm: BatchNormalization | None, training: bool) -> tf.Tensor:
        return features if norm is None else norm(features, training=training)

    def get_config(self) -> dict[str, Any]:
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

    def branch_convolutions(self) -> tuple[tuple[str, int, int, int | tuple[int, int]], ...]:
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

    def branch_convolutions(self) -> tuple[tuple[str, int, int, int | tuple[int, int]], ...]:
        """(name, filters, kernel size, strides) of each convolution of F."""
        if self.filters % 4:
            raise ValueError(f"the filters of a bottleneck block must be divisible by 4, got {self.filters}")
        return (
            ("convolution_1", self.filters // 4, 1, 1),
            ("convolution_2", self.filters // 4, 3, self.strides),
            ("convolution_3", self.filters, 1, 1),
        )


@register
class ConvolutionChain(Block):
    """A block whose F is a chain of any number of 3x3 convolutions, without strides; always the composition of layers.

    Args:
        widths: channels of the outputs of each convolution; the last is F.
        batch_norm: as of `Block`.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...
    """

    def __init__(self, widths: Sequence[int], batch_norm: bool = True, **kwargs):
        self.widths = tuple(widths)
        super().__init__(self.widths[-1], batch_norm=batch_norm, fused=False, **kwargs)

    def branch_convolutions(self) -> tuple[tuple[str, int, int, int | tuple[int, int]], ...]:
        """(name, filters, kernel size, strides) of each convolution of F."""
        return tuple((f"convolution_{number}", width, 3, 1) for number, width in enumerate(self.widths, 1))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**Layer.get_config(self), "widths": self.widths, "batch_norm": self.batch_norm}


def convolution_relu(filters: int, kernel_size: int = 3, strides: int = 1, name: str | None = None) -> keras.Sequential:
    """The sandwich conv -> ReLU as a `keras.Sequential`."""
    return keras.Sequential([Convolution(filters, kernel_size, strides=strides), Activation("relu")], name=name)


def convolution_relu_pool(
    filters: int, kernel_size: int = 3, strides: int = 1, pool_size: int = 2, name: str | None = None
) -> keras.Sequential:
    """The sandwich conv -> ReLU -> max pool as a `keras.Sequential`."""
    layers = [Convolution(filters, kernel_size, strides=strides), Activation("relu"), MaxPooling(pool_size)]
    return keras.Sequential(layers, name=name)
