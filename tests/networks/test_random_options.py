"""Random options of every network: it trains a step, or is refused in one line that names what is wrong."""

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies

from models import networks
from models.networks import Count, CountOrZero, Layers, Rate, Switch, Widths, WidthsOrNone
from tests.support.fuzz import fuzz
from tfpipeline.system import FlagError

CLASSES = 3
WIDTH = strategies.integers(1, 8).map(str)
# By what an option is annotated with: texts that are right, and others.
RIGHT = {
    Count: strategies.integers(1, 4).map(str),
    CountOrZero: strategies.integers(0, 3).map(str),
    Layers: strategies.integers(1, 2).map(str),
    Widths: strategies.lists(WIDTH, min_size=1, max_size=2).map(",".join),
    WidthsOrNone: strategies.lists(WIDTH, max_size=2).map(",".join),
    Rate: strategies.sampled_from(["0", "0.5", "1e-3"]),
    Switch: strategies.sampled_from(["true", "false", "True"]),
    networks.ActivationName: strategies.sampled_from(sorted(networks.FUNCTIONS)),
    networks.GlobalPoolingMode: strategies.sampled_from(["mean", "max"]),
    networks.GlobalPoolingOrNone: strategies.sampled_from(["none", "mean", "max"]),
    networks.Shortcuts: strategies.sampled_from(["layer", "pool"]),
}
WRONG = ("-1", "1.5", "x", "nan", "inf", "1e9", "70000", "8,,-2", "1,x", "--", "none", "2 3", "\u0663", "0x2")


def is_small_enough(name, options, height, width):
    """Whether the windows of a network fit into its images; what the options leave open is as it is by default."""
    length = min(height, width)
    if name in ("conv_classifier", "resnet_classifier"):
        default = (32, 64) if name == "conv_classifier" else (64, 128, 256)
        count = len(options.get("filters_per_layer", default)) * options.get("layers_per_block", 2)
        pools = (count - (name == "resnet_classifier")) // options.get("pool_every", 2)
        return length >> pools >= 1
    if name == "whitened_cnn":
        return (length - 1) >> len(options["filters_per_layer"]) >= 1
    if name == "pooled_resnet":
        return length >> len(options["filters_per_layer"]) >= 1
    if name == "fast_resnet":
        return -(-length // (options.get("stem_strides", 0) or 1)) >> 3 >= 1
    return name != "patchify_net" or not (height % options.get("patch_size", 4) or width % options.get("patch_size", 4))


def goes_together(options):
    """Whether a bottleneck, where there is one, has a shortcut of its own and numbers of filters that 4 divides."""
    if not options.get("bottleneck"):
        return True
    return options.get("shortcut") != "pool" and not any(width % 4 for width in options["filters_per_layer"])


@pytest.mark.slow
@fuzz(60)
@given(strategies.data())
def test_random_options_train_a_step_or_are_refused_by_name(data):
    draw = data.draw
    name = draw(strategies.sampled_from(sorted(networks.NETWORKS)))
    height, width = draw(strategies.sampled_from([(8, 12), (16, 16), (9, 6), (3, 5)]))
    known = networks.options_of(name)
    # Widths are always given, as those by default take long; of the others some.
    wide = [key for key in known if known[key].annotation in (Widths, WidthsOrNone) or key in ("width", "hidden")]
    chosen = {key for key in known if key in wide or draw(strategies.booleans())}
    wrong = draw(strategies.none() | strategies.sampled_from(sorted(chosen)))
    texts = {
        key: draw(strategies.sampled_from(WRONG) if key == wrong else RIGHT[known[key].annotation])
        for key in sorted(chosen)
    }
    pairs = [f"{key}={text}" for key, text in texts.items()]
    if wrong is not None and not is_right(known[wrong].annotation, texts[wrong]):
        with pytest.raises(FlagError) as refusal:
            networks.build(name, (height, width, 3), CLASSES, **networks.parse_options(name, pairs))
        assert str(refusal.value).startswith(f"--network-options {wrong}=") and "\n" not in str(refusal.value)
        return
    options = networks.parse_options(name, pairs)
    if not (is_small_enough(name, options, height, width) and goes_together(options)):
        with pytest.raises(FlagError) as refusal:
            networks.build(name, (height, width, 3), CLASSES, **options)
        assert str(refusal.value).startswith("--network")
        assert "\n" not in str(refusal.value)
        return
    keras.utils.set_random_seed(0)
    model = networks.build(name, (height, width, 3), CLASSES, **options)
    images = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2, 0], logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert logits.shape == (4, CLASSES) and np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    before = float(loss)
    keras.optimizers.SGD(1e-3).apply(gradients, model.trainable_variables)
    assert any(np.any(gradient) for gradient in gradients) and np.isfinite(before)


def is_right(annotation, text):
    """Whether a text is a value of an option, by the words of what it must be."""
    kind, must = typing.get_args(annotation)
    try:
        if typing.get_origin(kind) is tuple:
            numbers = [int(part) for part in text.split(",") if part]
            return all(1 <= number <= 65536 for number in numbers) and (len(numbers) > 0 or "nothing" in must.be)
        if kind is int:
            return int(text) >= (0 if "0.." in must.be else 1) and int(text) <= (1000 if "1000" in must.be else 65536)
        if kind is str:
            return text in must.be.removeprefix("one of ").replace(" or ", ", ").split(", ")
        return kind is float and 0 <= float(text) < 1
    except ValueError:
        return False
