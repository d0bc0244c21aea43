"""Networks by name, made of our own layers: images of 0..255 in, logits out.

Every network is a keras.Model from (B, H, W, 3) pixels in 0..255, uint8 or float, to (B, classes) logits in float32.
Weights that a ReLU follows start from Kaiming's normal distribution, variance 2 / fan-in (He et al. 2015, eq. 10); the
last layer, which no ReLU follows, from variance 1 / fan-in.
"""

import inspect
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf

from models.blocks import BottleneckBlock, ConvolutionChain, ResidualBlock
from models.gradients.windows import TooSmall
from models.initializers import PartialIdentity
from models.layers import (
    FUNCTIONS,
    Activation,
    BatchNormalization,
    Convolution,
    Dropout,
    GlobalPooling,
    Linear,
    MaxPooling,
    Patchify,
    PatchWhitening,
    Shape,
)
from tfpipeline.system import FlagError, message_of

# Natural images have a mean of about 120 and a standard deviation of about 64: the first layer sees about N(0, 1).
PIXEL_MEAN, PIXEL_DEVIATION = 120.0, 64.0

NETWORKS: dict[str, Callable] = {}
ADAPTED_PIXELS = 2**20  # Twelve numbers a patch, for a covariance of 12 x 12.


class Must(typing.NamedTuple):
    """What the value of an option must be, in words, and whether a value of its type is that."""

    be: str
    allow: Callable[[Any], bool]


# More than any network needs, and few enough to say no before the memory is full.
_MOST, _MOST_LAYERS = 65536, 1000


def _all_count(values: Sequence[int]) -> bool:
    return len(values) <= _MOST_LAYERS and all(1 <= value <= _MOST for value in values)


Count = Annotated[int, Must(f"a whole number in 1..{_MOST}", lambda value: 1 <= value <= _MOST)]
CountOrZero = Annotated[int, Must(f"a whole number in 0..{_MOST}", lambda value: 0 <= value <= _MOST)]
Layers = Annotated[int, Must(f"a whole number in 1..{_MOST_LAYERS}", lambda value: 1 <= value <= _MOST_LAYERS)]
Widths = Annotated[
    tuple[int, ...],
    Must(f"one or more whole numbers in 1..{_MOST}", lambda values: len(values) > 0 and _all_count(values)),
]
WidthsOrNone = Annotated[tuple[int, ...], Must(f"whole numbers in 1..{_MOST}, or nothing", _all_count)]
Rate = Annotated[float, Must("a number from 0 on and below 1", lambda value: 0 <= value < 1)]
Switch = Annotated[bool, Must("true or false", lambda value: True)]
ActivationName = Annotated[str, Must(f"one of {', '.join(FUNCTIONS)}", FUNCTIONS.__contains__)]
GlobalPoolingMode = Annotated[str, Must("mean or max", ("mean", "max").__contains__)]
GlobalPoolingOrNone = Annotated[str, Must("none, mean or max", ("none", "mean", "max").__contains__)]
Shortcuts = Annotated[str, Must("layer or pool", ("layer", "pool").__contains__)]


def network(function: Callable) -> Callable:
    """Registers a function (images, classes, **options) -> logits under its name.

    Its parameters are the options of the network, however many these are. Each is annotated with what it must be.
    """
    NETWORKS[function.__name__] = function
    return function


def build(name: str, image_shape: Sequence[int | None], classes: int, **options: Any) -> keras.Model:
    """A freshly initialized network; seed it with `keras.utils.set_random_seed` before.

    Args:
        name: a key of `NETWORKS`.
        image_shape: (H, W, 3); H and W may be None where the network takes any size.
        classes: K, the number of logits.
        **options: the keyword arguments of the network's function.

    Raises:
        FlagError: no such network or option, a value that an option cannot have, images that do not fit the network,
            or weights that do not fit into memory.
    """
    function = NETWORKS.get(name)
    if function is None:
        raise FlagError(f"--network {name}: there is no such network; choose one of {', '.join(NETWORKS)}")
    allowed = options_of(name)
    for option, value in options.items():
        if option not in allowed:
            raise FlagError(f"--network-options {option}: {name} has {', '.join(allowed) or 'no options'}")
        _check_option(option, allowed[option].annotation, value)
    shape, given = tuple(image_shape), f" with {options}" if options else ""
    try:
        return _build(name, shape, classes, options)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise FlagError(f"--network {name}{given} does not fit into memory: make it smaller") from error
    except TooSmall as error:
        least = _least_length(name, shape, classes, options)
        raise FlagError(
            f"--network {name}{given} takes images of at least {least}x{least}, got {shape[0]}x{shape[1]}: "
            "enlarge them, or pool less"
        ) from error
    except ValueError as error:
        raise FlagError(f"--network {name} does not fit images of {shape}{given}: {message_of(error)}") from error


def _build(name: str, image_shape: Shape, classes: int, options: dict[str, Any]) -> keras.Model:
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / PIXEL_DEVIATION, -PIXEL_MEAN / PIXEL_DEVIATION, name="standardize")(images)
    logits = NETWORKS[name](x, classes, **options)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(images, logits, name=name)


def _least_length(name: str, image_shape: Shape, classes: int, options: dict[str, Any]) -> int:
    """The least height and width at which the network can be built; that of `image_shape` is too small."""

    def fits(length):
        try:
            _build(name, (length, length, image_shape[2]), classes, options)
        except TooSmall:
            return False
        return True

    too_small = min(length for length in image_shape[:2] if length is not None)
    enough = 2 * too_small
    while not fits(enough):
        too_small, enough = enough, 2 * enough
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        too_small, enough = (too_small, middle) if fits(middle) else (middle, enough)
    return enough


def adapt(model: keras.Model, images: np.ndarray) -> None:
    """Computes the layers that are made from images, not learned.

    Args:
        model: of `build`.
        images: (N, H, W, 3), of 0..255, some of those to learn from: `sample_to_adapt` says which.
    """
    for layer in model.layers:
        if isinstance(layer, PatchWhitening):
            layer.adapt(keras.Model(model.inputs, layer.input).predict_on_batch(images))


def sample_to_adapt(shape: Sequence[int]) -> np.ndarray:
    """The indices of enough images for `adapt`, int64, evenly spread over all.

    Args:
        shape: of all images, (N, H, W, 3).
    """
    count = max(1, ADAPTED_PIXELS // math.prod(shape[1:3]))
    return np.unique(np.linspace(0, shape[0] - 1, count).astype(int))


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network: name -> parameter, with its default and type."""
    return dict(list(inspect.signature(NETWORKS[name]).parameters.items())[2:])


def parse_options(name: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Options from texts such as `filters_per_layer=64,128` by the types of the network's parameters.

    Args:
        name: a key of `NETWORKS`.
        pairs: texts `key=value`; a list's values are separated by commas.

    Raises:
        FlagError: a text is not `key=value`, or a value is not of the option's type.
    """
    options: dict[str, Any] = {}
    known = options_of(name) if name in NETWORKS else {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise FlagError(f"--network-options {pair}: write key=value")
        if key not in known:
            options[key] = text  # `build` refuses it by name.
            continue
        kind, _ = typing.get_args(known[key].annotation)
        try:
            options[key] = _parse_value(kind, text)
        except ValueError as error:
            raise FlagError(f"--network-options {pair}: {error}") from error
    return options


def _parse_value(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(typing.get_args(kind)[0](part) for part in text.split(",") if part)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text} is neither true nor false")
        return text.lower() == "true"
    return kind(text)


def _check_option(name: str, annotation: Any, value: Any) -> None:
    """Raises FlagError unless the value is of the annotated type and what it must be."""
    kind, must = typing.get_args(annotation)
    is_list = typing.get_origin(kind) is tuple
    values = list(value) if isinstance(value, list | tuple) else [value]
    single = typing.get_args(kind)[0] if is_list else kind
    right = is_list == isinstance(value, list | tuple) and all(_has_type(single, one) for one in values)
    if not right or not must.allow(value):
        text = ",".join(map(str, values))
        raise FlagError(f"--network-options {name}={text}: {name} must be {must.be}")


def _has_type(kind: type, value: Any) -> bool:
    """Whether the value is of the type; an int is a float as well, and True is no number."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float if kind is float else kind)


def parameter_count(model: keras.Model) -> int:
    """The number of trainable parameters."""
    return sum(int(variable.numpy().size) for variable in model.trainable_variables)


def closest_width(target: int, build_at: Callable[[int], keras.Model], low: int, high: int) -> int:
    """The width in [low, high] at which a network's parameter count is closest to `target`; the smaller of two.

    Args:
        target: the number of parameters to meet.
        build_at: width -> keras.Model, whose parameter count grows with the width.
        low: the smallest width.
        high: the largest width.

    Raises:
        ValueError: there is no width in [low, high].
    """
    if low > high:
        raise ValueError(f"there is no width from {low} to {high}")
    # The first width that is wide enough, or the largest there is, and the one before it.
    first, last = low, high
    while first < last:
        middle = (first + last) // 2
        if parameter_count(build_at(middle)) < target:
            first = middle + 1
        else:
            last = middle
    candidates = [width for width in (first - 1, first) if width >= low]
    return min(candidates, key=lambda width: abs(parameter_count(build_at(width)) - target))


def _head(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    return Linear(classes, kernel_initializer="lecun_normal", name="head")(x)


def _fully_connected(
    x: keras.KerasTensor,
    hidden_dims: Sequence[int],
    classes: int,
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.KerasTensor:
    """(fc -> activation [-> dropout]) * M -> fc."""
    if None in x.shape[1:]:
        raise ValueError("it flattens them, so all must have one known height and width; fast_resnet takes any size")
    x = keras.layers.Flatten()(x)
    for units in hidden_dims:
        x = Activation(activation)(Linear(units)(x))
        if dropout:
            x = Dropout(dropout)(x)
    return _head(x, classes)


def _convolution(
    x: keras.KerasTensor, filters: int, strides: int = 1, batch_norm: bool = True, activation: str = "relu"
) -> keras.KerasTensor:
    """3x3 conv [-> normalization] -> activation."""
    x = Convolution(filters, 3, strides=strides, use_bias=not batch_norm)(x)
    if batch_norm:
        x = BatchNormalization()(x)
    return Activation(activation)(x)


def _is_large(x: keras.KerasTensor) -> bool:
    """Whether the images are known to be above 32 pixels high."""
    return x.shape[1] is not None and x.shape[1] > 32


@network
def mlp(
    x: keras.KerasTensor,
    classes: int,
    hidden_dims: WidthsOrNone = (512,),
    activation: ActivationName = "relu",
    dropout: Rate = 0.0,
) -> keras.KerasTensor:
    """A multilayer perceptron over the flattened pixels: (fc -> activation) * M -> fc."""
    return _fully_connected(x, hidden_dims, classes, activation, dropout)


@network
def patchify_net(
    x: keras.KerasTensor, classes: int, patch_size: Count = 4, filters: Count = 40, hidden: Count = 300
) -> keras.KerasTensor:
    """Patchify (f, filters) -> ReLU -> fc (hidden) -> ReLU -> fc: the network of KTH's DD2424."""
    if any(length is not None and length % patch_size for length in x.shape[1:3]):
        raise ValueError(f"height and width must be multiples of patch_size={patch_size}")
    x = Activation("relu")(Patchify(filters, patch_size, input_gradient=False)(x))
    return _fully_connected(x, (hidden,), classes)


@network
def conv_classifier(
    x: keras.KerasTensor,
    classes: int,
    filters_per_layer: Widths = (32, 64),
    layers_per_block: Layers = 2,
    pool_every: Count = 2,
    hidden_dims: WidthsOrNone = (128,),
    batch_norm: Switch = False,
    dropout: Rate = 0.0,
    activation: ActivationName = "relu",
    global_pooling: GlobalPoolingOrNone = "none",
) -> keras.KerasTensor:
    """[(conv -> act)*P -> pool]*(N/P) -> (fc -> act)*M -> fc, with N = layers_per_block * len(filters_per_layer).

    With a global pooling before the first fc it takes images of any size. The parameters after the second are its
    options, one each.
    """
    widths = [filters for filters in filters_per_layer for _ in range(layers_per_block)]
    for number, filters in enumerate(widths, 1):
        x = _convolution(x, filters, batch_norm=batch_norm, activation=activation)
        if number % pool_every == 0:
            x = MaxPooling(2)(x)
    if global_pooling != "none":
        x = GlobalPooling(global_pooling)(x)
    return _fully_connected(x, hidden_dims, classes, activation, dropout)


@network
def resnet_classifier(
    x: keras.KerasTensor,
    classes: int,
    filters_per_layer: Widths = (64, 128, 256),
    layers_per_block: Layers = 2,
    pool_every: Count = 2,
    hidden_dims: WidthsOrNone = (),
    batch_norm: Switch = True,
    dropout: Rate = 0.0,
    bottleneck: Switch = False,
    shortcut: Shortcuts = "layer",
) -> keras.KerasTensor:
    """The interface of `conv_classifier`, with shortcuts.

    By default a residual block stands in the place of each convolution. With shortcut=pool each (conv -> act)*P up to
    the next pooling has one shortcut around it, so that P says how many convolutions a shortcut spans, too.
    Without batch normalization there is none at all, and the blocks are the plain sandwich x + conv(ReLU(conv(x))).
    The parameters after the second are its options, one each.
    """
    if bottleneck and any(filters % 4 for filters in filters_per_layer):
        text = ",".join(map(str, filters_per_layer))
        raise FlagError(f"--network-options filters_per_layer={text}: with bottleneck=true each must be divisible by 4")
    if bottleneck and shortcut == "pool":
        raise FlagError("--network-options shortcut=pool: a bottleneck block has its own shortcut; leave one out")
    widths = [filters for filters in filters_per_layer for _ in range(layers_per_block)]
    if shortcut == "pool":
        for first in range(0, len(widths), pool_every):
            x = MaxPooling(2)(x) if first else x
            x = ConvolutionChain(widths[first : first + pool_every], batch_norm=batch_norm)(x)
        return _fully_connected(GlobalPooling("mean")(x), hidden_dims, classes, dropout=dropout)
    block = BottleneckBlock if bottleneck else ResidualBlock
    x = _convolution(x, filters_per_layer[0], batch_norm=batch_norm)
    for number, filters in enumerate(widths, 1):
        x = block(filters, batch_norm=batch_norm)(x)
        if number % pool_every == 0 and number < len(widths):
            x = MaxPooling(2)(x)
    return _fully_connected(GlobalPooling("mean")(x), hidden_dims, classes, dropout=dropout)


@network
def sequential_cnn(
    x: keras.KerasTensor,
    classes: int,
    levels: WidthsOrNone = (),
    flat_levels: WidthsOrNone = (),
    layers_per_level: Layers = 3,
) -> keras.KerasTensor:
    """Levels of three 3x3 conv-BN-ReLU with a 3x3/2 max pool between them, global mean, fc (UT Dallas).

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        levels: filters of each level; 32, 64, 128 by default, and 256 too for images known to be above 32 pixels.
        flat_levels: filters of further levels that no pooling precedes, such as 512, 1024.
        layers_per_level: convolutions in a level.
    """
    levels = levels or ((32, 64, 128, 256) if _is_large(x) else (32, 64, 128))
    for level, filters in enumerate((*levels, *flat_levels)):
        if 0 < level < len(levels):
            x = MaxPooling(3, strides=2, padding="same")(x)
        for _ in range(layers_per_level):
            x = _convolution(x, filters)
    return _head(GlobalPooling("mean")(x), classes)


@network
def global_pool_cnn(
    x: keras.KerasTensor, classes: int, filters_per_layer: Widths = (32, 64, 128), mode: GlobalPoolingMode = "mean"
) -> keras.KerasTensor:
    """Strided conv-BN-ReLU levels and one global pooling: takes images of any size.

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        filters_per_layer: filters of each level; all but the first halve the image.
        mode: `mean` or `max`, the global pooling.
    """
    for level, filters in enumerate(filters_per_layer):
        x = _convolution(x, filters, strides=2 if level else 1)
        x = _convolution(x, filters)
    return _head(GlobalPooling(mode)(x), classes)


@network
def fast_resnet(
    x: keras.KerasTensor, classes: int, width: Count = 16, stem_strides: CountOrZero = 0
) -> keras.KerasTensor:
    """Our best network for the time it takes: a short residual network that halves the image early.

    After Page's and Coleman et al.'s DAWNBench networks: a stem, then three levels of conv-pool-BN-ReLU, the first and
    the last with a residual block, a global mean and a linear head. Pooling before normalization leaves a quarter
    of the numbers to normalize.

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        width: filters of the stem; the levels have 2, 4 and 8 times as many.
        stem_strides: stride of the stem; 0 chooses 2 for images known to be above 32 pixels, else 1.
    """
    x = _convolution(x, width, strides=stem_strides or (2 if _is_large(x) else 1))
    for factor in (2, 4, 8):
        x = MaxPooling(2)(Convolution(width * factor, 3, use_bias=False)(x))
        x = Activation("relu")(BatchNormalization()(x))
        if factor != 4:
            x = ResidualBlock(width * factor)(x)
    return _head(GlobalPooling("mean")(x), classes)


@network
def pooled_resnet(
    x: keras.KerasTensor,
    classes: int,
    filters_per_layer: Widths = (32, 64, 128),
    layers_per_block: Layers = 3,
    dropout: Rate = 0.0,
) -> keras.KerasTensor:
    """Levels of L convolutions: conv-pool-BN-ReLU, then residual blocks of two, and one conv-BN-ReLU where L is even.

    Our own network of the courses' experiment 2. The first convolution of each level is pooled before it is normalized,
    so that the many others see a quarter of the numbers.

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        filters_per_layer: filters of each level.
        layers_per_block: L, the convolutions of a level.
        dropout: share of the pooled channels that training drops.
    """
    for filters in filters_per_layer:
        x = MaxPooling(2)(Convolution(filters, 3, use_bias=False)(x))
        x = Activation("relu")(BatchNormalization()(x))
        for _ in range((layers_per_block - 1) // 2):
            x = ResidualBlock(filters)(x)
        if layers_per_block % 2 == 0:
            x = _convolution(x, filters)
    x = GlobalPooling("mean")(x)
    return _head(Dropout(dropout)(x) if dropout else x, classes)


@network
def whitened_cnn(x: keras.KerasTensor, classes: int, filters_per_layer: Widths = (64, 256, 256)) -> keras.KerasTensor:
    """A plain network for few epochs: whitened patches, then levels of two convolutions that begin as the identity.

    After Jordan's airbench94 ("94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024), with ReLU, which takes half the
    time of GELU on a processor. The first layer is computed from the images (see `adapt`), the first convolution of a
    level is pooled before it is normalized, normalization has no scale, and small logits let the rate be high. It takes
    `--optimizer muon`: see recipes/training.

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        filters_per_layer: filters of each level.
    """
    x = Activation("relu")(PatchWhitening()(x))
    for filters in filters_per_layer:
        x = _normalized(MaxPooling(2)(_from_identity(x, filters)))
        x = _normalized(_from_identity(x, filters))
    x = keras.layers.Rescaling(0.3, name="shrink")(GlobalPooling("max")(x))
    small = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return Linear(classes, use_bias=False, kernel_initializer=small)(x)


def _from_identity(x, filters):
    return Convolution(filters, 3, use_bias=False, kernel_initializer=PartialIdentity())(x)


def _normalized(x):
    return Activation("relu")(BatchNormalization(momentum=0.6, scale=False)(x))
