"""The residual blocks as Keras layers: fused and composed are the same, in training, after reloading, in every type."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.blocks import BottleneckBlock, ConvolutionChain, ResidualBlock, convolution_relu, convolution_relu_pool

SHAPE = (7, 6, 3)
BLOCKS = [ResidualBlock, BottleneckBlock]
both_blocks = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)


def model_of(layer, shape=SHAPE):
    images = keras.Input(shape)
    return keras.Model(images, layer(images))


def images(count=4, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(dtype)


def step_gradients(model, x):
    """The outputs of a training step and the gradients of a loss by the inputs and the trainable weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(outputs, tf.float32)) if outputs.dtype == tf.bfloat16 else tf.sin(outputs))
    return outputs, tape.gradient(loss, [x, *model.trainable_variables])


def train(model, steps):
    """Adam, so that the optimizer has a state of its own."""
    if not model.compiled:
        model.compile(keras.optimizers.Adam(1e-2), "mse")
        # Variables that Keras makes within its first step cost a second trace.
        model.optimizer.build(model.trainable_variables)
    for seed in range(steps):
        x = images(seed=seed)
        model.train_on_batch(x, np.ones((len(x), *model.output_shape[1:]), np.float32))


@both_blocks
@pytest.mark.parametrize("filters, strides", [(4, 1), (8, 2), (4, (1, 3))])
def test_fused_equals_composed_in_values_gradients_and_moving_statistics(block, filters, strides):
    fused = model_of(block(filters, strides, dtype="float64"))
    plain = model_of(block(filters, strides, fused=False, dtype="float64"))
    plain.set_weights(fused.get_weights())
    x = images(dtype=np.float64)
    ours, derived = step_gradients(fused, x)
    theirs, expected = step_gradients(plain, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    for gradient, oracle in zip(derived, expected, strict=True):
        np.testing.assert_allclose(gradient, oracle, rtol=0, atol=1e-10 * max(1, np.max(np.abs(oracle))))
    for weight, twin in zip(fused.weights, plain.weights, strict=True):
        np.testing.assert_allclose(weight, twin, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fused(x), plain(x), rtol=0, atol=1e-10)


@both_blocks
def test_outputs_have_the_stated_shape(block):
    assert model_of(block(8, (2, 3))).output_shape == (None, 4, 2, 8)


@pytest.mark.slow
@both_blocks
@pytest.mark.parametrize("fused", [True, False])
def test_saved_and_reloaded_gives_the_same_and_trains_on_the_same(block, fused, tmp_path):
    model = model_of(block(4, fused=fused))
    train(model, 2)
    model.save(tmp_path / "model.keras")
    twin = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(twin(images()), model(images()))
    train(model, 2), train(twin, 2)
    for weight, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(weight, other)


@both_blocks
def test_config_round_trips(block):
    layer = block(8, (2, 1), batch_norm=False, fused=False, name="block")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config()
    assert type(twin) is block


@both_blocks
def test_mixed_bfloat16_keeps_float32_weights_and_is_close_to_float32(block):
    mixed, exact = model_of(block(8, dtype="mixed_bfloat16")), model_of(block(8))
    exact.set_weights(mixed.get_weights())
    ours, derived = step_gradients(mixed, images(16))
    theirs, _ = step_gradients(exact, images(16))
    assert ours.dtype == tf.bfloat16
    assert {str(weight.dtype) for weight in mixed.weights} == {"float32"}
    assert all(gradient.dtype == tf.float32 for gradient in derived)
    assert float(tf.norm(tf.cast(ours, tf.float32) - theirs) / tf.norm(theirs)) < 2e-2


@both_blocks
def test_without_normalization_it_is_the_sandwich_of_convolutions(block):
    layer = block(4, batch_norm=False)
    model = model_of(layer)
    x = images()
    branch = x
    for number, convolution in enumerate(layer.convolutions):
        branch = (
            tf.nn.conv2d(tf.nn.relu(branch) if number else branch, convolution.kernel, 1, "SAME") + convolution.bias
        )
    shortcut = tf.nn.conv2d(x, layer.projection.kernel, 1, "SAME") + layer.projection.bias
    np.testing.assert_allclose(model(x, training=True), tf.nn.relu(branch + shortcut), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_other_channels_than_built_for_are_refused_with_both_numbers(fused):
    layer = ResidualBlock(4, fused=fused)
    layer.build((None, *SHAPE))
    with pytest.raises(ValueError, match=r"have 5 channels, but the kernel of shape \(3, 3, 3, 4\) takes 3"):
        layer(np.zeros((2, 7, 6, 5), np.float32), training=True)


def test_bottleneck_needs_filters_that_four_divides():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        BottleneckBlock(6)


@pytest.mark.slow
def test_training_step_compiles_with_xla():
    model = model_of(ResidualBlock(4, 2))
    weights = model.get_weights()
    expected = step_gradients(model, images())[1]
    model.set_weights(weights)
    compiled = tf.function(lambda x: step_gradients(model, x), jit_compile=True)(tf.constant(images()))[1]
    for ours, theirs in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_exported_saved_model_gives_the_same(tmp_path):
    model = model_of(BottleneckBlock(8, 2))
    train(model, 1)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(images()), model(images()), rtol=1e-5, atol=1e-5)


def test_sandwiches_are_what_their_names_say():
    plain, pooled = model_of(convolution_relu(5)), model_of(convolution_relu_pool(5, pool_size=2))
    x = images()
    convolution = plain.layers[-1].layers[0]
    expected = tf.nn.relu(tf.nn.conv2d(x, convolution.kernel, 1, "SAME") + convolution.bias)
    np.testing.assert_allclose(plain(x), expected, rtol=1e-4, atol=1e-5)
    pooled.set_weights(plain.get_weights())
    np.testing.assert_allclose(pooled(x), tf.nn.max_pool2d(expected, 2, 2, "VALID"), rtol=1e-4, atol=1e-5)


@both_blocks
@pytest.mark.parametrize("fused", [True, False])
def test_a_frozen_block_is_in_inference_also_in_training(block, fused):
    layer = block(8, 2, fused=fused)
    model = model_of(layer)
    _, (_, *gradients) = step_gradients(model, images())
    keras.optimizers.Adam(1e-2).apply(gradients, model.trainable_variables)
    model.trainable = False
    before = model.get_weights()
    np.testing.assert_array_equal(model(images(), training=True), model(images()))
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


@both_blocks
@pytest.mark.parametrize("frozen", ["norm_1", "norm_2", "projection_norm"])
def test_each_normalization_may_be_frozen_alone(block, frozen):
    fused, plain = block(8, 2, dtype="float64"), block(8, 2, fused=False, dtype="float64")
    models = [model_of(layer) for layer in (fused, plain)]
    models[1].set_weights(models[0].get_weights())
    for layer in (fused, plain):
        (norm,) = (norm for norm in (*layer.norms, layer.projection_norm) if norm.name == frozen)
        norm.moving_mean.assign_add(0.5 * tf.ones_like(norm.moving_mean))
        norm.trainable = False
        kept = norm.get_weights()
    x = images(dtype=np.float64)
    (ours, derived), (theirs, expected) = (step_gradients(model, x) for model in models)
    np.testing.assert_array_equal(ours, theirs)
    for gradient, oracle in zip(derived, expected, strict=True):
        np.testing.assert_allclose(gradient, oracle, rtol=0, atol=1e-10 * max(1, np.max(np.abs(oracle))))
    for weight, before in zip(norm.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(weight, before)
    moved = [weight for weight in models[0].weights if "moving_mean" in weight.path and np.any(weight)]
    assert len(moved) == len(fused.norms) + 1, "the others follow the batch"


@both_blocks
@pytest.mark.parametrize("training", [False, True])
def test_integers_are_computed_with_as_the_floats_that_they_are(block, training):
    integers = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)
    layer = block(4)
    layer.build((None, *SHAPE))
    before = layer.get_weights()
    outputs = layer(integers, training=training)
    layer.set_weights(before)
    np.testing.assert_array_equal(outputs, layer(integers.astype(np.float32), training=training))
    assert outputs.dtype == tf.float32


@both_blocks
@pytest.mark.parametrize("strides", [1, 2, (3, 2)])
def test_the_output_shape_is_told_without_running_the_block(block, strides, monkeypatch):
    real = block(8, strides)(images()).shape
    layer = block(8, strides)
    monkeypatch.setattr(type(layer), "call", lambda self, inputs: pytest.fail("the block was run"))
    assert layer.compute_output_shape((4, *SHAPE)) == real
    assert layer(keras.Input(SHAPE)).shape == (None, *real[1:])
    assert layer.compute_output_shape((None, None, SHAPE[1], 3)) == (None, None, *real[2:])
    with pytest.raises(ValueError, match=r"have 5 channels.*takes 3"):
        layer.compute_output_shape((None, 7, 6, 5))


def test_sandwiches_tell_their_output_shape():
    assert convolution_relu(5, strides=2).compute_output_shape((None, 7, 6, 3)) == (None, 4, 3, 5)
    assert convolution_relu_pool(5).compute_output_shape((None, 7, None, 3)) == (None, 3, None, 5)


def test_strides_that_are_none_are_refused():
    with pytest.raises(ValueError, match="strides must be a positive integer or two of them, got 0"):
        ResidualBlock(4, 0)


@pytest.mark.parametrize("widths", [(4,), (5, 3), (2, 6, 3)])
def test_a_chain_is_so_many_convolutions_with_one_shortcut_around_them(widths):
    layer = ConvolutionChain(widths, batch_norm=False, name="chain")
    model, x = model_of(layer), images()
    branch = x
    for number, convolution in enumerate(layer.convolutions):
        branch = tf.nn.conv2d(tf.nn.relu(branch) if number else branch, convolution.kernel, 1, "SAME")
    shortcut = x if widths[-1] == SHAPE[-1] else tf.nn.conv2d(x, layer.projection.kernel, 1, "SAME")
    np.testing.assert_allclose(model(x, training=True), tf.nn.relu(branch + shortcut), rtol=1e-4, atol=1e-5)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert twin.get_config() == layer.get_config() and type(twin) is ConvolutionChain
