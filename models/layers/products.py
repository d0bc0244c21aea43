"""The layers with a kernel: patchify, convolution, linear.

Each casts its weights to the dtype of its inputs in `call`: the operations take tensors only, and mixed precision
computes in bfloat16 while the weights stay float32. The constructors have the parameters of Keras's layers, however
many these are.
"""

from typing import Any

import keras
import tensorflow as tf

from models.gradients.convolution import convolution
from models.gradients.linear import add_bias, linear
from models.gradients.patchify import check_tiles, patches_product, patchify
from models.gradients.windows import Padding, check_channels, output_lengths, padding_of, pair, windows_on
from models.layers.layer import Layer, Shape, register


class Product(Layer):
    """A layer with a kernel whose last axis is the number of filters, and perhaps a bias.

    Args:
        filters: F, the size of the output's last axis.
        use_bias: whether b[f] is added to the output.
        kernel_initializer: how the kernel starts; the bias starts at 0.
        **kwargs: of `keras.layers.Layer`: name, dtype, ...
    """

    def __init__(
        self, filters: int, use_bias: bool, kernel_initializer: str | keras.initializers.Initializer, **kwargs
    ):
        super().__init__(**kwargs)
        if not isinstance(filters, int) or filters < 1:
            raise ValueError(f"{type(self).__name__} needs a positive number of filters, got {filters!r}")
        self.filters = filters
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def add_weights(self, kernel_shape: Shape) -> None:
        """Makes the kernel of the given shape, and the bias (F,)."""
        self.kernel = self.add_weight(shape=kernel_shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias") if self.use_bias else None

    def check_built_for(self, input_shape: Shape) -> None:
        """Raises ValueError if the kernel takes another number of channels than the inputs have."""
        if self.built:
            check_channels(input_shape, self.kernel.shape)

    def kernel_for(self, inputs: tf.Tensor) -> tf.Tensor:
        """The kernel as a tensor of the inputs' dtype."""
        return tf.cast(self.kernel, inputs.dtype)

    def with_bias(self, features: tf.Tensor) -> tf.Tensor:
        """The features plus the bias, if there is one."""
        return add_bias(features, tf.cast(self.bias, features.dtype)) if self.use_bias else features

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@register
class Patchify(Product):
    """The patch embedding: y[b,h,w,f] = sum_pqc x[b,hP+p,wP+q,c] K[p,q,c,f] + b[f]

    Inputs are images (B, H, W, C), P dividing H and W, and outputs (B, H/P, W/P, F); or patches (B, N, PPC), which
    `models.gradients.patchify.patches` made ready once for all, and outputs (B, N, F). The weights are the same.

    Args:
        filters: F.
        patch_size: P.
        use_bias: whether there is b.
        kernel_initializer: of K, (P, P, C, F).
        input_gradient: False for a first layer: then dL/dx is never computed. For patches it never is.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the patches are no squares, P does not divide H or W, or the inputs do not have the channels that
            the layer was built for.
    """

    def __init__(
        self,
        filters: int,
        patch_size: int,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        input_gradient: bool = True,
        **kwargs,
    ):
        super().__init__(filters, use_bias, kernel_initializer, **kwargs)
        self.patch_size, width = pair(patch_size, "patch_size")
        if width != self.patch_size:
            raise ValueError(f"patches are squares, got the patch_size {patch_size!r}")
        self.input_gradient = input_gradient

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for inputs of the given shape."""
        self.add_weights((self.patch_size, self.patch_size, self._channels(input_shape), self.filters))

    def _channels(self, input_shape: Shape) -> int | None:
        """C of images, or of the images that patches were cut from."""
        size, length = self.patch_size, input_shape[-1]
        if len(input_shape) != 3 or length is None:
            return length
        if length % size**2:
            raise ValueError(f"patches of length {length} are not {size}x{size} pixels of whole channels")
        return length // size**2

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H/P, W/P, F) for images, (B, N, F) for patches."""
        inputs = self.as_floats(inputs)
        kernel = self.kernel_for(inputs)
        if len(inputs.shape) == 3:
            return self.with_bias(patches_product(inputs, kernel))
        return self.with_bias(patchify(inputs, kernel, self.input_gradient))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, H/P, W/P, F) for images, (B, N, F) for patches."""
        self.check_built_for((*input_shape[:-1], self._channels(input_shape)))
        if len(input_shape) == 3:
            return *input_shape[:-1], self.filters
        check_tiles(input_shape, self.patch_size)
        lengths = (None if length is None else length // self.patch_size for length in input_shape[1:3])
        return input_shape[0], *lengths, self.filters

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "patch_size": self.patch_size, "input_gradient": self.input_gradient}


@register
class Convolution(Product):
    """The convolution: y[b,h,w,f] = sum_pqc x[b,hS+p-top,wT+q-left,c] K[p,q,c,f] + b[f]

    Inputs are images (B, H, W, C), outputs (B, H', W', F). The seven parameters are those from which Keras builds the
    layer of a file again.

    Args:
        filters: F.
        kernel_size: (P, Q), or one int for both.
        strides: (S, T), or one int for both.
        padding: "same", "valid", or ((top, bottom), (left, right)).
        use_bias: whether there is b.
        method: "auto", or a way to compute it: see `models.gradients.convolution.convolution`.
        kernel_initializer: of K, (P, Q, C, F).
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the images do not have the channels that the layer was built for, or no window fits into them.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: Padding = "same",
        use_bias: bool = True,
        method: str = "auto",
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        **kwargs,
    ):
        super().__init__(filters, use_bias, kernel_initializer, **kwargs)
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = padding_of(padding)
        self.method = method
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for inputs of the given shape."""
        self.add_weights((*self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H', W', F)."""
        inputs = self.as_floats(inputs)
        return self.with_bias(convolution(inputs, self.kernel_for(inputs), self.strides, self.padding, self.method))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(B, H', W', F)."""
        self.check_built_for(input_shape)
        lengths = output_lengths(windows_on, input_shape, self.kernel_size, self.strides, self.padding)
        return input_shape[0], *lengths, self.filters

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "method": self.method,
        }


@register
class Linear(Product):
    """The linear layer: y[n,f] = sum_d x[n,d] W[d,f] + b[f], over the last axis of inputs (..., D)

    Args:
        units: F.
        use_bias: whether there is b.
        kernel_initializer: of W, (D, F).
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the inputs do not have the size that the layer was built for.
    """

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        **kwargs,
    ):
        super().__init__(units, use_bias, kernel_initializer, **kwargs)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for inputs of the given shape."""
        self.add_weights((input_shape[-1], self.filters))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(..., F)."""
        inputs = self.as_floats(inputs)
        return self.with_bias(linear(inputs, self.kernel_for(inputs)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(..., F)."""
        self.check_built_for(input_shape)
        return *input_shape[:-1], self.filters

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        return {"units": config.pop("filters"), **config}
