"""Networks by name, made of our own layers: images of 0..255 in, logits out.

Every network is a keras.Model from (B, H, W, 3) pixels in 0..255, uint8 or float, to (B, classes) logits in float32.
Weights that a ReLU follows start from Kaiming's normal distribution, variance 2 / fan-in (He et al. 2015, eq. 10); the
last layer, which no ReLU follows, from variance 1 / fan-in.
"""

import inspect
import typing

import keras

from models.blocks import BottleneckBlock, ResidualBlock
from models.layers import (
    Activation,
    BatchNormalization,
    Convolution,
    Dropout,
    GlobalPooling,
    Linear,
    MaxPooling,
    Patchify,
)
from tfpipeline.system import FlagError

# Natural images have a mean of about 120 and a standard deviation of about 64: the first layer sees about N(0, 1).
PIXEL_MEAN, PIXEL_DEVIATION = 120.0, 64.0

NETWORKS: dict[str, typing.Callable] = {}


def network(function):
    """Registers a function (images, classes, **options) -> logits under its name."""
    NETWORKS[function.__name__] = function
    return function


def build(name: str, image_shape, classes: int, **options) -> keras.Model:
    """A freshly initialized network; seed it with `keras.utils.set_random_seed` before.

    Args:
        name: a key of `NETWORKS`.
        image_shape: (H, W, 3); H and W may be None where the network takes any size.
        classes: K, the number of logits.
        **options: the keyword arguments of the network's function.

    Raises:
        FlagError: no such network or option, or the network does not fit the images.
    """
    function = NETWORKS.get(name)
    if function is None:
        raise FlagError(f"--network {name}: there is no such network; choose one of {', '.join(NETWORKS)}")
    allowed = options_of(name)
    for option in options:
        if option not in allowed:
            raise FlagError(f"--network-options {option}: {name} has {', '.join(allowed) or 'no options'}")
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / PIXEL_DEVIATION, -PIXEL_MEAN / PIXEL_DEVIATION, name="standardize")(images)
    try:
        logits = function(x, classes, **options)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise FlagError(f"--network {name} does not fit images of {image_shape} with {options}: {reason}") from error
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(images, logits, name=name)


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network: name -> parameter, with its default and type."""
    return dict(list(inspect.signature(NETWORKS[name]).parameters.items())[2:])


def parse_options(name: str, pairs) -> dict:
    """Options from texts such as `filters_per_layer=64,128` by the types of the network's parameters.

    Args:
        name: a key of `NETWORKS`.
        pairs: texts `key=value`; a list's values are separated by commas.

    Raises:
        FlagError: a text is not `key=value`, or a value is not of the option's type.
    """
    options = {}
    known = options_of(name) if name in NETWORKS else {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise FlagError(f"--network-options {pair}: write key=value")
        if key not in known:
            options[key] = text  # `build` refuses it by name.
            continue
        try:
            options[key] = _parse_value(known[key].annotation, text)
        except ValueError as error:
            raise FlagError(f"--network-options {pair}: {error}") from error
    return options


def _parse_value(kind, text):
    if typing.get_origin(kind) is tuple:
        return tuple(typing.get_args(kind)[0](part) for part in text.split(",") if part)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text} is neither true nor false")
        return text.lower() == "true"
    return kind(text)


def parameter_count(model: keras.Model) -> int:
    """The number of trainable parameters."""
    return sum(int(variable.numpy().size) for variable in model.trainable_variables)


def closest_width(target: int, build_at, low: int, high: int) -> int:
    """The width in [low, high] at which a network's parameter count is closest to `target`.

    Args:
        target: the number of parameters to meet.
        build_at: width -> keras.Model, whose parameter count grows with the width.
        low: the smallest width.
        high: the largest width.
    """
    while low < high:
        middle = (low + high) // 2
        if parameter_count(build_at(middle)) < target:
            low = middle + 1
        else:
            high = middle
    candidates = [width for width in (low - 1, low) if width >= 1]
    return min(candidates, key=lambda width: abs(parameter_count(build_at(width)) - target))


def _head(x, classes):
    return Linear(classes, kernel_initializer="lecun_normal", name="head")(x)


def _fully_connected(x, hidden_dims, classes, activation="relu", dropout=0.0):
    """(fc -> activation [-> dropout]) * M -> fc."""
    x = keras.layers.Flatten()(x)
    for units in hidden_dims:
        x = Activation(activation)(Linear(units)(x))
        if dropout:
            x = Dropout(dropout)(x)
    return _head(x, classes)


def _convolution_normalization_activation(x, filters, kernel_size=3, strides=1, activation="relu"):
    x = Convolution(filters, kernel_size, strides=strides, use_bias=False)(x)
    return Activation(activation)(BatchNormalization()(x))


@network
def mlp(x, classes, hidden_dims: tuple[int, ...] = (512,), activation: str = "relu", dropout: float = 0.0):
    """A multilayer perceptron over the flattened pixels: (fc -> activation) * M -> fc."""
    return _fully_connected(x, hidden_dims, classes, activation, dropout)


@network
def patchify_net(x, classes, patch_size: int = 4, filters: int = 40, hidden: int = 300):
    """Patchify (f, filters) -> ReLU -> fc (hidden) -> ReLU -> fc: the network of KTH's DD2424."""
    x = Activation("relu")(Patchify(filters, patch_size, input_gradient=False)(x))
    return _fully_connected(x, (hidden,), classes)


@network
def conv_classifier(
    x,
    classes,
    filters_per_layer: tuple[int, ...] = (32, 64),
    layers_per_block: int = 2,
    pool_every: int = 2,
    hidden_dims: tuple[int, ...] = (128,),
    batch_norm: bool = False,
    dropout: float = 0.0,
    activation: str = "relu",
):
    """[(conv -> act)*P -> pool]*(N/P) -> (fc -> act)*M -> fc, with N = layers_per_block * len(filters_per_layer)."""
    widths = [filters for filters in filters_per_layer for _ in range(layers_per_block)]
    for number, filters in enumerate(widths, 1):
        x = Convolution(filters, 3, use_bias=not batch_norm)(x)
        if batch_norm:
            x = BatchNormalization()(x)
        x = Activation(activation)(x)
        if number % pool_every == 0:
            x = MaxPooling(2)(x)
    return _fully_connected(x, hidden_dims, classes, activation, dropout)


@network
def resnet_classifier(
    x,
    classes,
    filters_per_layer: tuple[int, ...] = (64, 128, 256),
    layers_per_block: int = 2,
    pool_every: int = 2,
    hidden_dims: tuple[int, ...] = (),
    batch_norm: bool = True,
    dropout: float = 0.0,
    bottleneck: bool = False,
):
    """The interface of `conv_classifier`, with a residual block in the place of each convolution.

    Without batch normalization the blocks are the plain sandwich x + conv(ReLU(conv(x))).
    """
    block = BottleneckBlock if bottleneck else ResidualBlock
    x = _convolution_normalization_activation(x, filters_per_layer[0])
    widths = [filters for filters in filters_per_layer for _ in range(layers_per_block)]
    for number, filters in enumerate(widths, 1):
        x = block(filters, batch_norm=batch_norm)(x)
        if number % pool_every == 0 and number < len(widths):
            x = MaxPooling(2)(x)
    return _fully_connected(GlobalPooling("mean")(x), hidden_dims, classes, dropout=dropout)


@network
def sequential_cnn(
    x, classes, levels: tuple[int, ...] = (), flat_levels: tuple[int, ...] = (), layers_per_level: int = 3
):
    """Levels of three 3x3 conv-BN-ReLU with a 3x3/2 max pool between them, global mean, fc (UT Dallas).

    Args:
        x: standardized images.
        classes: K.
        levels: filters of each level; 32, 64, 128 by default, and 256 too for images above 32 pixels.
        flat_levels: filters of further levels that no pooling precedes, such as 512, 1024.
        layers_per_level: convolutions in a level.
    """
    levels = levels or ((32, 64, 128) if x.shape[1] <= 32 else (32, 64, 128, 256))
    for level, filters in enumerate((*levels, *flat_levels)):
        if 0 < level < len(levels):
            x = MaxPooling(3, strides=2, padding="same")(x)
        for _ in range(layers_per_level):
            x = _convolution_normalization_activation(x, filters)
    return _head(GlobalPooling("mean")(x), classes)


@network
def global_pool_cnn(x, classes, filters_per_layer: tuple[int, ...] = (32, 64, 128), mode: str = "mean"):
    """Strided conv-BN-ReLU levels and one global pooling: takes images of any size.

    Args:
        x: standardized images; H and W may be unknown.
        classes: K.
        filters_per_layer: filters of each level; all but the first halve the image.
        mode: `mean` or `max`, the global pooling.
    """
    for level, filters in enumerate(filters_per_layer):
        x = _convolution_normalization_activation(x, filters, strides=2 if level else 1)
        x = _convolution_normalization_activation(x, filters)
    return _head(GlobalPooling(mode)(x), classes)


@network
def fast_resnet(x, classes, width: int = 16, stem_strides: int = 0):
    """Our best network for the time it takes: a short residual network that halves the image early.

    After Page's and Coleman et al.'s DAWNBench networks: a stem, then three levels of conv-pool-BN-ReLU, the first and
    the last with a residual block, a global mean and a linear head. Pooling before normalization leaves a quarter
    of the numbers to normalize.

    Args:
        x: standardized images.
        classes: K.
        width: filters of the stem; the levels have 2, 4 and 8 times as many.
        stem_strides: stride of the stem; 0 chooses 1 up to 32 pixels and 2 above.
    """
    x = _convolution_normalization_activation(x, width, strides=stem_strides or (1 if x.shape[1] <= 32 else 2))
    for factor in (2, 4, 8):
        x = MaxPooling(2)(Convolution(width * factor, 3, use_bias=False)(x))
        x = Activation("relu")(BatchNormalization()(x))
        if factor != 4:
            x = ResidualBlock(width * factor)(x)
    return _head(GlobalPooling("mean")(x), classes)
