"""Networks by name: their shapes and counts, their options, and that each of them learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import networks
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
