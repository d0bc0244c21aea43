import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.gradients.patchify import patches
from models.initializers import PartialIdentity
from models.layers import (
    Activation,
    BatchNormalization,
    Convolution,
    Dropout,
    GlobalPooling,
    Linear,
    MaxPooling,
    MeanPooling,
    Patchify,
    PatchWhitening,
)

LAYERS = {
    "patchify": lambda: Patchify(5, 2),
    "patchify, first": lambda: Patchify(5, 2, use_bias=False, kernel_initializer="ones", input_gradient=False),
    "convolution": lambda: Convolution(5, (3, 2), strides=(2, 1)),
    "convolution, explicit": lambda: Convolution(5, 3, padding=((1, 0), (2, 1)), use_bias=False, method="shifted"),
    "linear": lambda: Linear(5),
    "patch whitening": lambda: PatchWhitening(2),
    "max pooling": lambda: MaxPooling(3, 2, "same"),
    "mean pooling": lambda: MeanPooling((2, 1), padding=((1, 0), (0, 0))),
    "global mean": lambda: GlobalPooling(),
    "global max": lambda: GlobalPooling("max"),
}
EVERY_LAYER = {
    **LAYERS,
    "activation": lambda: Activation("gelu"),
    "batch normalization": lambda: BatchNormalization(),
    "dropout": lambda: Dropout(0.5, seed=1),
}
SHAPE = (2, 6, 4, 3)


def images(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(policy="float32"):
    """All layers in one small classifier of 4 classes."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            Patchify(6, 2, input_gradient=False, dtype=policy),
            Convolution(7, 3, dtype=policy),
            MaxPooling(2, dtype=policy),
            Convolution(8, 2, padding=((1, 0), (0, 1)), dtype=policy),
            MeanPooling(2, 1, padding="same", dtype=policy),
            GlobalPooling("max", dtype=policy),
            Linear(4, dtype="float32"),
        ]
    )


def compiled(model, **options):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    model.optimizer.build(model.trainable_variables)  # Within its first step it would cost a second trace.
    return model


def train(model, epochs):
    """The losses of some epochs over 32 images, in order."""
    truth = np.arange(32) % 4
    inputs = images((32, 16, 12, 3), seed=1) + truth[:, None, None, None]
    return model.fit(inputs, truth, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("name", LAYERS)
def test_config_round_trips(name):
    layer = LAYERS[name]()
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(twin) is type(layer)
    assert twin.get_config() == layer.get_config()
    layer(images())
    twin(images())
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(images()), layer(images()))


@pytest.mark.parametrize("name", LAYERS)
def test_symbolic_shape_is_the_shape_that_comes_out(name):
    inputs = keras.Input(SHAPE[1:])
    assert LAYERS[name]()(inputs).shape[1:] == LAYERS[name]()(images()).shape[1:]


@pytest.mark.parametrize(
    "name, twin",
    [
        ("patchify", lambda: keras.layers.Conv2D(5, 2, strides=2)),
        ("patchify, first", lambda: keras.layers.Conv2D(5, 2, strides=2, use_bias=False)),
        ("convolution", lambda: keras.layers.Conv2D(5, (3, 2), strides=(2, 1), padding="same")),
        ("linear", lambda: keras.layers.Dense(5)),
        ("max pooling", lambda: keras.layers.MaxPooling2D(3, 2, "same")),
        ("global mean", lambda: keras.layers.GlobalAveragePooling2D()),
        ("global max", lambda: keras.layers.GlobalMaxPooling2D()),
    ],
)
def test_takes_the_weights_of_the_keras_layer_and_gives_what_it_gives(name, twin):
    ours, theirs = LAYERS[name](), twin()
    ours(images()), theirs(images())
    theirs.set_weights([images(weight.shape, seed=2) for weight in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(images()), theirs(images()), atol=1e-5)


def test_patchify_gives_the_same_for_patches_made_ready():
    layer = Patchify(5, 2)
    expected = layer(images())
    ready = patches(tf.constant(images()), 2)
    np.testing.assert_array_equal(layer(ready), tf.reshape(expected, (2, 6, 5)))
    fresh = Patchify(5, 2)
    fresh(ready)
    assert fresh.kernel.shape == layer.kernel.shape


def test_first_patchify_has_no_input_gradient():
    inputs = tf.constant(images())
    gradients = {}
    for name in ("patchify", "patchify, first"):
        layer = LAYERS[name]()
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
        gradients[name] = tape.gradient(outputs, [inputs, layer.kernel.value])
    assert gradients["patchify, first"][0] is None
    assert gradients["patchify"][0].shape == SHAPE
    np.testing.assert_allclose(gradients["patchify, first"][1], gradients["patchify"][1], atol=1e-5)


@pytest.mark.slow
def test_saved_and_reloaded_gives_the_same_and_goes_on_training_the_same(tmp_path):
    model = compiled(network())
    train(model, 2)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = images((3, 16, 12, 3))
    np.testing.assert_array_equal(reloaded(inputs), model(inputs))
    assert train(reloaded, 2) == train(model, 2)
    for ours, theirs in zip(reloaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_learns(policy, jit_compile):
    model = compiled(network(policy), jit_compile=jit_compile)
    losses = train(model, 12)
    assert losses[-1] < losses[0] / 2
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


@pytest.mark.slow
def test_exported_model_gives_the_same(tmp_path):
    model = network()
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    inputs = images((3, 16, 12, 3))
    np.testing.assert_allclose(exported.serve(inputs), model(inputs), atol=1e-5)


def test_unknown_image_size():
    model = keras.Sequential(
        [keras.Input((None, None, 3)), Convolution(4, 3, 2), MaxPooling(2, padding="same"), GlobalPooling(), Linear(2)]
    )
    for size in ((8, 8), (9, 5), (1, 1)):
        assert model(images((2, *size, 3))).shape == (2, 2)


@pytest.mark.parametrize("name", ["patchify", "patchify, first", "convolution", "linear"])
def test_other_channels_than_built_for_are_named(name):
    layer = LAYERS[name]()
    layer(images())
    with pytest.raises(ValueError, match=r"have 5 channels.*takes 3"):
        layer(images((2, 6, 4, 5)))


def test_other_wrong_values_are_named():
    with pytest.raises(ValueError, match="Linear needs a positive number of filters, got 0"):
        Linear(0)
    with pytest.raises(ValueError, match=r"3x3 do not tile images of shape \(2, 6, 4, 3\)"):
        Patchify(5, 3)(images())
    with pytest.raises(ValueError, match=r'the mode of GlobalPooling is "mean" or "max", got \'median\''):
        GlobalPooling("median")
    with pytest.raises(ValueError, match=r"patches of length 7 are not 2x2 pixels"):
        Patchify(5, 2)(images((2, 3, 7)))
    with pytest.raises(ValueError, match=r"windows of 7x7 do not fit into images of 6x4"):
        MaxPooling(7)(images())
    with pytest.raises(ValueError, match=r"pool_size must be a positive integer or two of them, got 2.5"):
        MeanPooling(2.5)


def in_policy(name, policy):
    """A layer of `EVERY_LAYER` with this dtype policy."""
    config = EVERY_LAYER[name]().get_config()
    return type(EVERY_LAYER[name]()).from_config({**config, "dtype": policy})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy, computed", [("float32", tf.float32), ("mixed_bfloat16", tf.bfloat16)])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("name", EVERY_LAYER)
def test_integers_are_computed_with_as_the_floats_that_they_are(name, dtype, policy, computed, training):
    layer = in_policy(name, policy)
    integers = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    layer.build(SHAPE)
    options = {"training": training} if name in ("batch normalization", "dropout") else {}
    before = layer.get_weights()
    outputs = layer(integers, **options)
    layer.set_weights(before)
    expected = layer(integers.astype(np.float32), **options)
    assert outputs.dtype == computed
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_a_model_of_bytes_gives_what_the_layer_gives(name):
    layer = EVERY_LAYER[name]()
    inputs = keras.Input(SHAPE[1:], dtype="uint8")
    model = keras.Model(inputs, layer(inputs))
    integers = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    assert model.outputs[0].dtype == "float32"
    np.testing.assert_allclose(model.predict(integers, verbose=0), layer(integers.astype(np.float32)), rtol=1e-5)


GEOMETRIES = [
    (lambda: Patchify(5, 2), (2, 6, 4, 3)),
    (lambda: Patchify(5, 2), (2, 6, 12)),
    (lambda: Convolution(5, (3, 2), strides=(2, 3)), (2, 7, 5, 3)),
    (lambda: Convolution(5, (3, 2), strides=(2, 3), padding="valid"), (2, 7, 5, 3)),
    (lambda: Convolution(5, 3, 2, padding=((2, 0), (1, 3))), (2, 7, 5, 3)),
    (lambda: Convolution(5, 1, (3, 2)), (2, 7, 5, 3)),
    (lambda: Linear(5), (2, 3)),
    (lambda: Linear(5), (2, 7, 5, 3)),
    *(
        (lambda pool=pool, options=options: pool(*options), (2, 7, 5, 3))
        for pool in (MaxPooling, MeanPooling)
        for options in [(2,), ((3, 2), (1, 4)), (3, 2, "same"), ((3, 2), 2, ((1, 2), (0, 1)))]
    ),
    (lambda: GlobalPooling("mean"), (2, 7, 5, 3)),
    (lambda: GlobalPooling("max"), (2, 7, 5, 3)),
    (lambda: Activation("relu"), (2, 7, 5, 3)),
    (lambda: BatchNormalization(), (2, 7, 5, 3)),
    (lambda: Dropout(0.5), (2, 7)),
]


@pytest.mark.parametrize("make, shape", GEOMETRIES, ids=lambda value: None if callable(value) else str(value))
def test_the_output_shape_is_told_without_running_the_layer(make, shape, monkeypatch):
    real = make()(images(shape)).shape
    layer = make()
    monkeypatch.setattr(type(layer), "call", lambda self, inputs: pytest.fail("the layer was run"))
    assert layer.compute_output_shape(shape) == real
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *real[1:])
    assert layer(keras.Input(shape[1:])).shape == (None, *real[1:])
    assert layer.compute_output_shape(shape) == real, "built, it says the same"


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    "make, shape",
    [(make, shape) for make, shape in GEOMETRIES if len(shape) == 4],
    ids=lambda value: None if callable(value) else str(value),
)
def test_a_length_that_is_unknown_stays_so_and_the_other_is_told(make, shape, axis):
    real = list(make()(images(shape)).shape)
    if len(real) == 4:
        real[axis] = None
    unknown = tuple(None if place == axis else length for place, length in enumerate(shape))
    assert make().compute_output_shape(unknown) == tuple(real)


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (MaxPooling(3), (None, 2, 9, 3), "windows of 3x3 do not fit into images of 2x9"),
        (Convolution(4, 3, padding="valid"), (None, 9, 2, 3), "windows of 3x3 do not fit into images of 9x2"),
        (Patchify(4, 2), (None, 8, 7, 3), r"patches of 2x2 do not tile images of shape \(None, 8, 7, 3\)"),
        (Patchify(4, 2), (None, 8, 7), "patches of length 7 are not 2x2 pixels of whole channels"),
        (MeanPooling(2, padding=((2, 0), (0, 0))), (None, 8, 8, 3), "leaves a pool of 2x2 outside of the images"),
    ],
)
def test_a_shape_that_the_layer_does_not_take_is_refused_when_it_is_asked_for(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.compute_output_shape(shape)


@pytest.mark.parametrize("name", ["patchify", "convolution", "linear"])
def test_other_channels_than_built_for_have_no_output_shape(name):
    layer = LAYERS[name]()
    layer(images())
    with pytest.raises(ValueError, match=r"have 5 channels.*takes 3"):
        layer.compute_output_shape((None, 6, 4, 5))


@pytest.mark.parametrize("make", [lambda: Convolution(4, 3), lambda: MaxPooling(2), lambda: GlobalPooling()])
def test_what_is_no_image_is_refused_by_its_axes(make):
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=2"):
        make()(np.zeros((2, 5), np.float32))


def test_patches_are_squares():
    assert Patchify(5, (2, 2)).patch_size == 2
    with pytest.raises(ValueError, match=r"patches are squares, got the patch_size \(2, 3\)"):
        Patchify(5, (2, 3))


def test_the_modules_of_before_the_room_still_have_their_layers():
    assert importlib.import_module("models.normalization").BatchNormalization is BatchNormalization
    assert importlib.import_module("models.activations").Activation is Activation


def test_whitened_patches_are_uncorrelated_and_of_variance_one():
    pixels = images((40, 9, 7, 3)).cumsum(axis=1).cumsum(axis=2)  # Neighbors say nearly the same.
    layer = PatchWhitening(2, epsilon=1e-9, dtype="float64")
    layer(pixels)
    layer.adapt(pixels)
    features = layer(pixels).numpy()
    assert features.shape == (40, 8, 6, 24)
    covariance = np.cov(features[..., :12].reshape(-1, 12), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-6)
    np.testing.assert_array_equal(features[..., 12:], -features[..., :12])


def test_directions_without_variance_stay_small():
    gray = np.repeat(images((40, 8, 8, 1)), 3, axis=-1)
    layer = PatchWhitening(2)
    layer(gray)
    layer.adapt(gray)
    variances = layer(gray).numpy()[..., :12].reshape(-1, 12).var(axis=0)
    assert np.sum(variances < 1e-3) == 8 and np.sum(abs(variances - 1) < 0.01) == 4


def test_of_patch_whitening_the_bias_learns_and_the_kernel_does_not():
    layer = PatchWhitening(3)
    layer(images())
    assert [weight.name for weight in layer.trainable_weights] == ["bias"]
    assert [weight.name for weight in layer.non_trainable_weights] == ["kernel"]


def test_a_normalization_without_scale_learns_beta_alone_and_gives_what_one_with_scale_gives():
    plain, scaled = BatchNormalization(scale=False), BatchNormalization()
    np.testing.assert_array_equal(plain(images(), training=True), scaled(images(), training=True))
    assert [weight.name for weight in plain.trainable_weights] == ["beta"]


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (3, 3, 5, 2), (2, 4, 3, 3)])
def test_a_partial_identity_passes_channels_on(shape):
    height, width, channels, filters = shape
    kernel = np.asarray(PartialIdentity(1)(shape))
    features = tf.nn.conv2d(images((2, 6, 6, channels)), kernel, 1, "SAME")
    same = min(channels, filters)
    if height % 2 and width % 2:
        np.testing.assert_allclose(features[..., :same], images((2, 6, 6, channels))[..., :same], atol=1e-6)
    assert np.sum(kernel[..., :same]) == np.sum(kernel[..., :same] ** 2) == same
    if filters > channels:
        limit = 1 / np.sqrt(height * width * channels)
        assert 0.5 * limit < np.abs(kernel[..., same:]).max() <= limit
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(PartialIdentity(1)))
    np.testing.assert_array_equal(twin(shape), kernel)
