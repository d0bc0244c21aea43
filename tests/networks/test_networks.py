"""Networks by name: their shapes and counts, their options, and that each of them learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import networks
from models.blocks import ConvolutionChain
from models.layers import BatchNormalization, Convolution, MaxPooling
from tfpipeline.system.errors import FlagError

# Small widths: what is tested is that the network learns, not how good it becomes.
SMALL = {
    "mlp": {"hidden_dims": (64,)},
    "patchify_net": {"filters": 16, "hidden": 64},
    "conv_classifier": {"filters_per_layer": (8, 16), "hidden_dims": (32,)},
    "resnet_classifier": {"filters_per_layer": (8, 16), "pool_every": 2},
    "sequential_cnn": {"levels": (8, 16)},
    "global_pool_cnn": {"filters_per_layer": (8, 16)},
    "fast_resnet": {"width": 4},
    "pooled_resnet": {"filters_per_layer": (4, 8), "layers_per_block": 4},
    "whitened_cnn": {"filters_per_layer": (8, 16)},
}


def random_images(count=64, size=16, classes=10):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3), np.uint8), rng.integers(0, classes, count)


def test_every_network_is_tested():
    assert SMALL.keys() == networks.NETWORKS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_network_overfits_64_images(name):
    keras.utils.set_random_seed(0)
    images, truth = random_images()
    model = networks.build(name, images.shape[1:], 10, **SMALL[name])
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)
    pixels = tf.constant(images, tf.float32)

    @tf.function
    def update():
        with tf.GradientTape() as tape:
            logits = model(pixels, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return logits

    for _ in range(300):
        right = np.argmax(update().numpy(), axis=1) == truth
        if right.all():
            break
    assert right.all(), f"{name} knows {right.sum()} of 64 images after 300 steps"


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", SMALL)
def test_a_network_takes_both_sizes_as_bytes_and_answers_in_float32(name, size):
    model = networks.build(name, (size, size, 3), 7, **SMALL[name])
    images, _ = random_images(2, size)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert logits.dtype == tf.float32
    np.testing.assert_array_equal(logits, model(images.astype(np.float32)))


def test_the_counts_of_the_published_networks():
    """f=4, 40 filters, 300 hidden: 4*4*3*40+40 + 64*40*300+300 + 300*10+10 (KTH DD2424)."""
    model = networks.build("patchify_net", (32, 32, 3), 10, patch_size=4, filters=40, hidden=300)
    assert networks.parameter_count(model) == 1_960 + 768_300 + 3_010
    # A convolution of 3x3 without bias and its gamma and beta, three in a level, and the linear layer.
    model = networks.build("sequential_cnn", (32, 32, 3), 10)
    counts = [9 * a * b + 2 * b for a, b in [(3, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 128)]]
    assert networks.parameter_count(model) == sum(counts) + 2 * (9 * 128 * 128 + 2 * 128) + 128 * 10 + 10


def test_a_global_pooling_of_81_filters_has_as_many_parameters_as_the_flattened_network():
    """The exercise of the course at VU Amsterdam: gray images of 28 pixels, three 3x3 convolutions, ten classes."""
    plain = {"layers_per_block": 1, "pool_every": 1, "hidden_dims": ()}
    flat = networks.build("conv_classifier", (28, 28, 1), 10, filters_per_layer=(16, 32, 64), **plain)
    assert networks.parameter_count(flat) == 29_066

    def build_at(width):
        options = {"filters_per_layer": (16, 32, width), "global_pooling": "max", **plain}
        return networks.build("conv_classifier", (None, None, 1), 10, **options)

    width = networks.closest_width(29_066, build_at, 60, 100)
    assert (width, networks.parameter_count(build_at(width))) == (81, 29_029)


def test_with_shortcuts_over_poolings_p_convolutions_have_one():
    options = {"filters_per_layer": (4, 6), "layers_per_block": 3, "batch_norm": False}
    model = networks.build("resnet_classifier", (16, 16, 3), 5, pool_every=2, shortcut="pool", **options)
    chains = [layer for layer in model.layers if isinstance(layer, ConvolutionChain)]
    assert [chain.widths for chain in chains] == [(4, 4), (4, 6), (6, 6)]
    assert [chain.projects for chain in chains] == [True, True, False]
    assert sum(isinstance(layer, MaxPooling) for layer in model.layers) == 2
    with pytest.raises(FlagError, match="a bottleneck block has its own shortcut"):
        networks.build("resnet_classifier", (16, 16, 3), 5, shortcut="pool", bottleneck=True)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_our_own_network_has_so_many_convolutions_in_each_level(layers):
    model = networks.build("pooled_resnet", (32, 32, 3), 5, filters_per_layer=(4, 8), layers_per_block=layers)
    inner = [layer for layer in model._flatten_layers() if isinstance(layer, Convolution) and layer.built]
    assert len(inner) == 2 * layers


@pytest.mark.slow
def test_images_of_64_pixels_get_one_more_level():
    assert networks.build("sequential_cnn", (64, 64, 3), 1000).get_layer("head").input.shape[-1] == 256
    assert networks.build("sequential_cnn", (64, 64, 3), 1001, flat_levels=(512,)).output_shape == (None, 1001)


def test_global_pooling_takes_any_size():
    model = networks.build("global_pool_cnn", (None, None, 3), 10, **SMALL["global_pool_cnn"])
    for size in ((16, 16), (33, 20), (64, 7)):
        assert model(np.zeros((2, *size, 3), np.uint8)).shape == (2, 10)


def test_the_closest_width_is_the_closest():
    def build_at(width):
        return networks.build("mlp", (8, 8, 3), 10, hidden_dims=(width,))

    target = networks.parameter_count(networks.build("conv_classifier", (8, 8, 3), 10, hidden_dims=(20,)))
    width = networks.closest_width(target, build_at, 1, 4000)
    distances = [abs(networks.parameter_count(build_at(w)) - target) for w in (width - 1, width, width + 1)]
    assert min(distances) == distances[1]


def test_options_are_read_by_their_types():
    pairs = ["filters_per_layer=8,16", "batch_norm=true", "dropout=0.25", "pool_every=1"]
    assert networks.parse_options("conv_classifier", pairs) == {
        "filters_per_layer": (8, 16),
        "batch_norm": True,
        "dropout": 0.25,
        "pool_every": 1,
    }


@pytest.mark.parametrize(
    ("name", "pairs", "message"),
    [
        ("resnet", [], "--network resnet: there is no such network; choose one of mlp, "),
        ("mlp", ["width=3"], "--network-options width: mlp has hidden_dims, activation, dropout"),
        ("mlp", ["width"], "--network-options width: write key=value"),
        ("mlp", ["hidden_dims=a"], "--network-options hidden_dims=a: invalid literal for int"),
        ("patchify_net", ["patch_size=5"], "--network patchify_net does not fit images of (32, 32, 3)"),
        ("conv_classifier", ["batch_norm=yes"], "--network-options batch_norm=yes: yes is neither true nor false"),
    ],
)
def test_wrong_names_and_options_are_refused(name, pairs, message):
    with pytest.raises(FlagError) as refusal:
        networks.build(name, (32, 32, 3), 10, **networks.parse_options(name, pairs))
    assert str(refusal.value).startswith(message)


@pytest.mark.slow
def test_global_pooling_learns_from_three_sizes_in_one_run_and_evaluates_on_others():
    """Batches are grouped by size; the class is whether the image's left or its right half is bright."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    def batch(height, width, count=32):
        truth = rng.integers(0, 2, count)
        images = rng.integers(0, 128, (count, height, width, 3), np.uint8)
        for image, right in zip(images, truth, strict=True):
            image[:, width // 2 * right : width // 2 * (right + 1)] += 100
        return images, truth

    def grouped():
        sizes = [(16, 16), (24, 20), (32, 32)]
        for number in range(90):
            yield batch(*sizes[number % 3])

    model = networks.build("global_pool_cnn", (None, None, 3), 2, **SMALL["global_pool_cnn"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    model.fit(grouped(), steps_per_epoch=90, verbose=0)
    for size in ((16, 16), (24, 20), (32, 32), (40, 28), (19, 33)):
        images, truth = batch(*size, count=200)
        assert model.evaluate(images, truth, verbose=0)[1] > 0.9, size


COUNTS = "a whole number in 1..65536"
WIDTHS = "one or more whole numbers in 1..65536"
ANY_WIDTHS = "whole numbers in 1..65536, or nothing"
LAYERS = "a whole number in 1..1000"
NUMBERS = {
    "mlp": {"hidden_dims": ANY_WIDTHS},
    "patchify_net": {"patch_size": COUNTS, "filters": COUNTS, "hidden": COUNTS},
    "conv_classifier": {
        "filters_per_layer": WIDTHS,
        "layers_per_block": LAYERS,
        "pool_every": COUNTS,
        "hidden_dims": ANY_WIDTHS,
    },
    "resnet_classifier": {
        "filters_per_layer": WIDTHS,
        "layers_per_block": LAYERS,
        "pool_every": COUNTS,
        "hidden_dims": ANY_WIDTHS,
    },
    "sequential_cnn": {"levels": ANY_WIDTHS, "flat_levels": ANY_WIDTHS, "layers_per_level": LAYERS},
    "global_pool_cnn": {"filters_per_layer": WIDTHS},
    "pooled_resnet": {"filters_per_layer": WIDTHS, "layers_per_block": LAYERS},
    "fast_resnet": {"width": COUNTS, "stem_strides": "a whole number in 0..65536"},
    "whitened_cnn": {"filters_per_layer": WIDTHS},
}


def refusal_of(name, pairs, shape=(16, 16, 3), **options):
    """The error text of a network with these options."""
    with pytest.raises(FlagError) as refusal:
        networks.build(name, shape, 10, **networks.parse_options(name, pairs), **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_every_number_among_the_options_is_tested():
    for name in networks.NETWORKS:
        others = {"activation", "mode", "dropout", "batch_norm", "bottleneck", "global_pooling", "shortcut"}
        assert set(networks.options_of(name)) - others == NUMBERS[name].keys()


@pytest.mark.parametrize("value", ["0", "-1", "", "65537", "8,0", "8,-3"])
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in NUMBERS for option in NUMBERS[name]])
def test_zero_negative_and_empty_options_are_refused_by_name(name, option, value):
    words = NUMBERS[name][option]
    if (value == "" and words == ANY_WIDTHS) or (value == "0" and option == "stem_strides"):
        assert networks.build(name, (16, 16, 3), 10, **networks.parse_options(name, [f"{option}={value}"]))
        return
    refusal = refusal_of(name, [f"{option}={value}"])
    is_number = value.lstrip("-").isdigit() or (value and "numbers" in words) or (value == "" and words == WIDTHS)
    reason = f"{option} must be {words}" if is_number else "invalid literal for int"
    assert refusal.startswith(f"--network-options {option}={value}: {reason}")


@pytest.mark.parametrize("value", ["-0.1", "1.0", "1.5", "nan", "inf"])
@pytest.mark.parametrize("name", ["mlp", "conv_classifier", "resnet_classifier"])
def test_a_dropout_that_is_none_is_refused(name, value):
    expected = f"--network-options dropout={value}: dropout must be a number from 0 on and below 1"
    assert refusal_of(name, [f"dropout={value}"]) == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"hidden_dims": 3}, "hidden_dims=3: hidden_dims must be whole numbers in 1..65536, or nothing"),
        ("mlp", {"hidden_dims": (2.5,)}, "hidden_dims=2.5: hidden_dims must be whole numbers"),
        ("mlp", {"hidden_dims": (True,)}, "hidden_dims=True: hidden_dims must be whole numbers"),
        ("mlp", {"activation": "swish"}, "activation=swish: activation must be one of relu, leaky_relu, sigmoid"),
        ("patchify_net", {"filters": "4"}, "filters=4: filters must be a whole number in 1..65536"),
        ("conv_classifier", {"batch_norm": 1}, "batch_norm=1: batch_norm must be true or false"),
        ("conv_classifier", {"filters_per_layer": ()}, "filters_per_layer=: filters_per_layer must be one or more"),
        ("global_pool_cnn", {"mode": "median"}, "mode=median: mode must be mean or max"),
        (
            "resnet_classifier",
            {"bottleneck": True, "filters_per_layer": (8, 6)},
            "filters_per_layer=8,6: with bottleneck=true each must be divisible by 4",
        ),
    ],
)
def test_values_of_other_types_are_refused_by_name(name, options, message):
    assert refusal_of(name, [], **options).startswith(f"--network-options {message}")


def test_lists_are_as_good_as_tuples_and_an_int_as_good_as_a_float():
    model = networks.build("mlp", (4, 4, 3), 10, hidden_dims=[3, 2], dropout=0)
    assert networks.parameter_count(model) == 48 * 3 + 3 + 3 * 2 + 2 + 2 * 10 + 10


ANY_SIZE = {"resnet_classifier", "sequential_cnn", "global_pool_cnn", "fast_resnet", "pooled_resnet", "whitened_cnn"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ANY_SIZE))
@pytest.mark.parametrize("shape", [(None, None, 3), (None, 24, 3), (16, None, 3)])
def test_a_network_with_global_pooling_takes_sizes_that_are_unknown(name, shape):
    keras.utils.set_random_seed(0)
    model = networks.build(name, shape, 10, **SMALL[name])
    height, width = (length or known for length, known in zip(shape, (20, 28), strict=False))
    images, _ = random_images(2, 32)
    images = images[:, :height, :width]
    keras.utils.set_random_seed(0)
    known = networks.build(name, (height, width, 3), 10, **SMALL[name])
    np.testing.assert_allclose(model(images), known(images), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(images, verbose=0), known(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SMALL.keys() - ANY_SIZE))
@pytest.mark.parametrize("shape", [(None, None, 3), (None, 16, 3)])
def test_a_network_that_flattens_refuses_sizes_that_are_unknown(name, shape):
    refusal = refusal_of(name, [], shape)
    assert refusal.startswith(
        f"--network {name} does not fit images of {shape}: it flattens them, so all must have one"
    )


@pytest.mark.slow
def test_images_of_unknown_size_that_turn_out_too_small_are_no_nan():
    model = networks.build("fast_resnet", (None, None, 3), 10, width=1)
    assert np.all(np.isfinite(model.predict(random_images(2, 8)[0], verbose=0)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="windows of 2x2 do not fit into the images"):
        model.predict(random_images(2, 7)[0], verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("conv_classifier", {"filters_per_layer": (2, 2), "hidden_dims": ()}, 4),
        ("conv_classifier", {"filters_per_layer": (2, 2, 2), "hidden_dims": (), "pool_every": 1}, 64),
        ("resnet_classifier", {"filters_per_layer": (4, 4, 4), "layers_per_block": 1, "pool_every": 1}, 4),
        ("fast_resnet", {"width": 1}, 8),
        ("fast_resnet", {"width": 1, "stem_strides": 2}, 15),
        ("fast_resnet", {"width": 1, "stem_strides": 5}, 36),
        ("whitened_cnn", {"filters_per_layer": (2, 2)}, 5),
    ],
)
def test_images_that_are_too_small_are_refused_with_the_least_size(name, options, least):
    model = networks.build(name, (least, least, 3), 10, **options)
    assert np.all(np.isfinite(model(np.zeros((1, least, least, 3)))))
    for shape in ((least - 1, least - 1, 3), (least - 1, 80, 3), (80, 1, 3)):
        assert refusal_of(name, [], shape, **options) == (
            f"--network {name} with {options} takes images of at least {least}x{least}, got {shape[0]}x{shape[1]}: "
            "enlarge them, or pool less"
        )


def test_images_that_patches_do_not_tile_are_refused_with_what_does():
    refusal = refusal_of("patchify_net", [], (6, 8, 3))
    assert refusal.endswith("images of (6, 8, 3): height and width must be multiples of patch_size=4")


def test_weights_that_do_not_fit_into_memory_are_refused(monkeypatch):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(networks, "_build", full)
    expected = "--network mlp with {'hidden_dims': (65536,)} does not fit into memory: make it smaller"
    assert refusal_of("mlp", ["hidden_dims=65536"]) == expected


@pytest.mark.parametrize("bottleneck", [False, True])
def test_without_batch_normalization_a_resnet_has_none_in_its_stem_either(bottleneck):
    options = {"filters_per_layer": (4, 8), "bottleneck": bottleneck}
    model = networks.build("resnet_classifier", (8, 8, 3), 10, batch_norm=False, **options)
    assert not [variable.path for variable in model.variables if "gamma" in variable.path or "moving" in variable.path]
    assert model.layers[2].use_bias
    normalized = networks.build("resnet_classifier", (8, 8, 3), 10, **options)
    assert isinstance(normalized.layers[3], BatchNormalization) and not normalized.layers[2].use_bias


@pytest.mark.parametrize("low, high", [(1, 9), (4, 9), (5, 5), (8, 9)])
@pytest.mark.parametrize("target", [0, 1, 700, 1100, 1500, 10**6])
def test_the_closest_width_stays_within_its_bounds(low, high, target):
    def build_at(width):
        return networks.build("mlp", (4, 4, 3), 10, hidden_dims=(3 * width,))

    distances = {width: abs(networks.parameter_count(build_at(width)) - target) for width in range(low, high + 1)}
    assert networks.closest_width(target, build_at, low, high) == min(distances, key=distances.get)


def test_bounds_without_a_width_are_refused():
    with pytest.raises(ValueError, match="there is no width from 5 to 4"):
        networks.closest_width(100, None, 5, 4)


def test_the_first_layer_of_whitened_cnn_is_computed_from_images():
    model = networks.build("whitened_cnn", (8, 8, 3), 10, **SMALL["whitened_cnn"])
    images, _ = random_images(50, 8)
    layer = model.get_layer(index=2)
    networks.adapt(model, images[networks.sample_to_adapt(images.shape)])
    standardized = (images - networks.PIXEL_MEAN) / networks.PIXEL_DEVIATION
    whitened = layer(standardized.astype(np.float32)).numpy()[..., :12].reshape(-1, 12)
    np.testing.assert_allclose(np.cov(whitened, rowvar=False), np.eye(12), atol=0.01)
    kernel = layer.kernel.numpy()
    networks.adapt(model, images)
    np.testing.assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize(
    ("shape", "count"), [((50_000, 32, 32, 3), 1024), ((7, 32, 32, 3), 7), ((9, 2000, 2000, 3), 1)]
)
def test_what_is_enough_to_adapt_to_is_spread_over_all_images(shape, count):
    indices = networks.sample_to_adapt(shape)
    assert len(indices) == count and indices[0] == 0 and (count == 1 or indices[-1] == shape[0] - 1)
