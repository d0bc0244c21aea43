"""The residual blocks as one operation against autodiff of TensorFlow's plain composition and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.batch_normalization import batch_normalization
from models.gradients.bottleneck_block import bottleneck_block
from models.gradients.normalized_convolution import NormalizedProjection, Weights
from models.gradients.residual_block import residual_block
from tests.support.oracles import assert_gradient, assert_rejects_swapped_axes, finite_difference_gradient

EPSILON = 1e-3
BOUNDED = settings(max_examples=12, deadline=None, derandomize=True)
# (kind, images, filters, strides): H != W, C != F, a batch of one, sizes of one, strides above the kernel's.
CASES = [
    ("residual", (2, 5, 4, 3), 3, (1, 1)),
    ("residual", (2, 5, 4, 3), 4, (1, 1)),
    ("residual", (1, 6, 3, 2), 4, (2, 2)),
    ("residual", (3, 1, 4, 2), 2, (1, 3)),
    ("residual", (2, 5, 7, 2), 3, (3, 2)),
    ("bottleneck", (2, 5, 4, 8), 8, (1, 1)),
    ("bottleneck", (2, 4, 3, 5), 8, (1, 1)),
    ("bottleneck", (1, 5, 6, 3), 4, (2, 1)),
    ("bottleneck", (4, 1, 3, 6), 4, (2, 2)),
]


def draw(kind, shape, filters, strides, seed=0):
    """(x, the branch's weights and the projection's if it is needed, flat) in float64."""
    random = np.random.default_rng(seed)
    channels = shape[-1]
    inner = max(filters // 4, 1)
    kernels = {
        "residual": [(3, 3, channels, filters), (3, 3, filters, filters)],
        "bottleneck": [(1, 1, channels, inner), (3, 3, inner, inner), (1, 1, inner, filters)],
    }[kind]
    if channels != filters or strides != (1, 1):
        kernels.append((1, 1, channels, filters))
    weights = []
    for kernel in kernels:
        weights += [random.normal(size=kernel), random.normal(1, 0.5, kernel[-1]), random.normal(size=kernel[-1])]
    return random.normal(size=shape) + 0.5, weights


def fused(kind, strides):
    """The operation as a function of (x, *weights) that returns y and the statistics, flat."""
    operation, convolutions = {"residual": (residual_block, 2), "bottleneck": (bottleneck_block, 3)}[kind]

    def block(x, *weights):
        stages = [Weights(*weights[first : first + 3]) for first in range(0, len(weights), 3)]
        projection = stages[convolutions] if len(stages) > convolutions else None
        x = tf.convert_to_tensor(x)
        outputs, statistics = operation(x, *stages[:convolutions], projection, strides, EPSILON)
        return (outputs, *(tensor for pair in statistics for tensor in pair))

    return block


def normalized(features, gamma, beta):
    """(BN, mean, variance) of TensorFlow's elementary operations."""
    mean = tf.reduce_mean(features, [0, 1, 2])
    variance = tf.reduce_mean(tf.square(features - mean), [0, 1, 2])
    return (features - mean) / tf.sqrt(variance + EPSILON) * gamma + beta, mean, variance


def composition(kind, strides, normalize=normalized):
    """The same as `fused`, composed of TensorFlow's operations and a normalization, for autodiff."""
    branch_strides = {"residual": [strides, (1, 1)], "bottleneck": [(1, 1), strides, (1, 1)]}[kind]

    def block(x, *weights):
        statistics = []

        def stage(inputs, first, strides):
            features = tf.nn.conv2d(inputs, weights[first], strides, "SAME")
            outputs, mean, variance = normalize(features, weights[first + 1], weights[first + 2])
            statistics.extend([mean, variance])
            return outputs

        branch = x
        for number, stride in enumerate(branch_strides):
            branch = stage(tf.nn.relu(branch) if number else branch, 3 * number, stride)
        last = 3 * len(branch_strides)
        shortcut = stage(x, last, strides) if len(weights) > last else x
        return (tf.nn.relu(branch + shortcut), *statistics)

    return block


def outputs_and_gradients(block, inputs, cotangent):
    """(y and the statistics, the gradients of <cotangent, y> by all inputs)."""
    inputs = [tf.convert_to_tensor(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = block(*inputs)
    return outputs, tape.gradient(outputs[0], inputs, output_gradients=tf.cast(cotangent, outputs[0].dtype))


def assert_equals_composition(kind, shape, filters, strides, seed):
    x, weights = draw(kind, shape, filters, strides, seed)
    cotangent = np.random.default_rng(seed + 1).normal(size=fused(kind, strides)(x, *weights)[0].shape)
    ours, derived = outputs_and_gradients(fused(kind, strides), (x, *weights), cotangent)
    theirs, expected = outputs_and_gradients(composition(kind, strides), (x, *weights), cotangent)
    for value, oracle in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(value, oracle, rtol=0, atol=1e-10)
    for gradient, oracle in zip(derived, expected, strict=True):
        assert_gradient(gradient, oracle, 1e-10)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_autodiff_of_the_plain_composition(case):
    assert_equals_composition(*case, seed=5)


@BOUNDED
@given(
    kind=st.sampled_from(["residual", "bottleneck"]),
    shape=st.tuples(st.integers(2, 3), st.integers(2, 5), st.integers(2, 5), st.integers(1, 5)),
    filters=st.sampled_from([4, 8]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_drawn_shapes_equal_autodiff_of_the_plain_composition(kind, shape, filters, strides):
    assert_equals_composition(kind, shape, filters, strides, seed=7)


@pytest.mark.parametrize(
    "case", [("residual", (2, 3, 2, 2), 3, (2, 1)), ("bottleneck", (2, 2, 3, 8), 8, (1, 1))], ids=lambda case: case[0]
)
def test_gradients_equal_finite_differences(case):
    kind, *_, strides = case
    x, weights = draw(*case)
    inputs = [x, *weights]
    plain = tf.function(composition(kind, strides))
    cotangent = np.random.default_rng(1).normal(size=plain(*map(tf.constant, inputs))[0].shape)
    _, derived = outputs_and_gradients(fused(kind, strides), inputs, cotangent)
    for place, gradient in enumerate(derived):

        def function(array, place=place):
            return plain(*(tf.constant(array if other == place else inputs[other]) for other in range(len(inputs))))[0]

        assert_gradient(gradient, finite_difference_gradient(function, inputs[place], cotangent), 1e-6)


@pytest.mark.parametrize("kind", ["residual", "bottleneck"])
def test_a_gradient_with_swapped_axes_is_rejected(kind):
    x, weights = draw(kind, (4, 4, 4, 8), 8, (1, 1))
    cotangent = np.random.default_rng(1).normal(size=(4, 4, 4, 8))
    _, derived = outputs_and_gradients(fused(kind, (1, 1)), (x, *weights), cotangent)
    _, expected = outputs_and_gradients(composition(kind, (1, 1)), (x, *weights), cotangent)
    # The images, and the 3x3 kernel of the branch.
    for place in (0, 1 if kind == "residual" else 4):
        assert_rejects_swapped_axes(derived[place], expected[place], 1e-10)


@pytest.mark.parametrize("case", [CASES[1], CASES[6]], ids=lambda case: case[0])
@pytest.mark.parametrize("dtype, tolerance", [(tf.float32, 1e-4), (tf.bfloat16, 2e-2)])
def test_other_types_are_as_close_to_float64_as_the_composition_of_our_layers(case, dtype, tolerance):
    kind, shape, filters, strides = case
    x, weights = draw(kind, (8, *shape[1:]), filters, strides)
    rounded = [tf.cast(x, dtype)]
    for place, weight in enumerate(weights):
        rounded.append(tf.cast(weight, tf.float32 if place % 3 else dtype))
    widened = [tf.cast(tensor, tf.float64) for tensor in rounded]
    cotangent = np.random.default_rng(1).normal(size=composition(kind, strides)(*widened)[0].shape)
    exact, expected = outputs_and_gradients(composition(kind, strides), widened, cotangent)
    outputs, derived = outputs_and_gradients(fused(kind, strides), rounded, cotangent)
    # A pre-activation that rounding moves over 0 flips a ReLU, and a gradient with it: in the composition as well.
    ours = composition(kind, strides, normalize=lambda *tensors: batch_normalization(*tensors, EPSILON))
    _, composed = outputs_and_gradients(ours, rounded, cotangent)
    assert [gradient.dtype for gradient in derived] == [tensor.dtype for tensor in rounded]
    assert relative_distance(outputs[0], exact[0]) < tolerance
    for gradient, plain, oracle in zip(derived, composed, expected, strict=True):
        assert relative_distance(gradient, oracle) < relative_distance(plain, oracle) + tolerance


@pytest.mark.parametrize(
    "case",
    [
        ("residual", (8, 5, 4, 6), 6, (1, 1)),
        ("residual", (8, 5, 4, 5), 6, (2, 1)),
        ("bottleneck", (8, 5, 4, 32), 32, (1, 1)),
    ],
    ids=str,
)
def test_bfloat16_is_within_2e_2_where_no_rounding_flips_a_relu(case):
    kind, _, _, strides = case
    x, weights = draw(*case)
    for place in range(0, len(weights), 3):
        # Each channel lies far on one side of 0, every other one on the upper side.
        weights[place + 1] = np.sign(weights[place + 1]) * (1 + np.abs(weights[place + 1]) / 4)
        weights[place + 2] = np.where(np.arange(len(weights[place + 2])) % 2, 6.0, -6.0)
    rounded = [tf.cast(x, tf.bfloat16)]
    for place, weight in enumerate(weights):
        rounded.append(tf.cast(weight, tf.float32 if place % 3 else tf.bfloat16))
    widened = [tf.cast(tensor, tf.float64) for tensor in rounded]
    cotangent = np.random.default_rng(1).normal(size=composition(kind, strides)(*widened)[0].shape)
    exact, expected = outputs_and_gradients(composition(kind, strides), widened, cotangent)
    outputs, derived = outputs_and_gradients(fused(kind, strides), rounded, cotangent)
    assert relative_distance(outputs[0], exact[0]) < 2e-2
    for gradient, oracle in zip(derived, expected, strict=True):
        # What the next normalization takes away again has the gradient 0: its error is one of sums of the cotangent.
        vanishes = float(tf.norm(oracle)) < 1e-9
        distance = float(tf.norm(tf.cast(gradient, tf.float64) - oracle))
        assert distance < 2e-2 * float(tf.norm(cotangent) if vanishes else tf.norm(oracle))


def relative_distance(ours, exact):
    """|ours - exact| / |exact|, with a floor for gradients that are 0 but for rounding."""
    return float(tf.norm(tf.cast(ours, tf.float64) - exact) / tf.maximum(tf.norm(exact), 1.0))


@pytest.mark.slow
def test_one_graph_with_unknown_sizes_and_xla_give_the_same():
    x, weights = draw("residual", (2, 5, 4, 3), 4, (2, 2))
    inputs = [tf.constant(array) for array in (x, *weights)]
    block = fused("residual", (2, 2))
    cotangent = np.random.default_rng(1).normal(size=(2, 3, 2, 4))

    def step(x, *weights):
        return outputs_and_gradients(block, (x, *weights), cotangent)

    expected = tf.nest.flatten(step(*inputs))
    signature = [tf.TensorSpec((None, None, None, 3), tf.float64), *(tf.TensorSpec(w.shape, w.dtype) for w in weights)]
    for compiled in (tf.function(step, input_signature=signature), tf.function(step, jit_compile=True)):
        for ours, theirs in zip(tf.nest.flatten(compiled(*inputs)), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    "images, filters, strides, message",
    [
        ((1, 4, 4, 5), 4, (1, 1), r"inputs have 5 channels, but the kernel of shape \(3, 3, 4, 4\) takes 4"),
        (
            (1, 4, 4, 4),
            4,
            (2, 2),
            r"images of 4 channels cannot be added to a branch of 4 filters with strides \(2, 2\)",
        ),
    ],
)
def test_a_mismatch_names_both_sizes(images, filters, strides, message):
    _, weights = draw("residual", (1, 4, 4, 4), filters, (1, 1))
    with pytest.raises(ValueError, match=message):
        fused("residual", strides)(np.zeros(images), *weights)


def test_a_projection_of_another_width_is_refused():
    _, weights = draw("bottleneck", (1, 4, 4, 3), 4, (1, 1))
    weights[-3:] = [np.zeros((1, 1, 3, 5)), np.ones(5), np.zeros(5)]
    with pytest.raises(ValueError, match="the projection has 5 filters, but the branch it is added to has 4"):
        fused("bottleneck", (1, 1))(np.zeros((1, 4, 4, 3)), *weights)


def shared_signal(kind, filters, strides, amplitude):
    """(x, weights): the channels of x share a signal that the first kernels' and the projection's filters take out."""
    x, weights = draw(kind, (4, 8, 6, 5), filters, strides)
    signal = np.random.default_rng(2).normal(size=(*x.shape[:-1], 1))
    for place in (0, len(weights) - 3):
        weights[place] -= weights[place].mean(2, keepdims=True)
    return amplitude * signal + 0.1 * x, weights, signal


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("along", [False, True], ids=["noise as g", "the signal as g"])
@pytest.mark.parametrize("amplitude", [1, 100, 1000])
@pytest.mark.parametrize("kind, filters, strides", [("residual", 6, (1, 1)), ("bottleneck", 8, (2, 1))])
def test_a_signal_that_all_channels_share_cancels_no_digits_of_the_composition(
    kind, filters, strides, amplitude, along, dtype
):
    """Where statistics were derived from the covariance of x, the variance was 30 times too large in float32."""
    x, weights, signal = shared_signal(kind, filters, strides, amplitude)
    rounded = [tf.cast(x, dtype)]
    for place, weight in enumerate(weights):
        rounded.append(tf.cast(weight, tf.float32 if place % 3 else dtype))
    widened = [tf.cast(tensor, tf.float64) for tensor in rounded]
    cotangent = np.random.default_rng(1).normal(size=composition(kind, strides)(*widened)[0].shape)
    if along:
        cotangent = signal[:, :: strides[0], :: strides[1]] + 0.01 * cotangent
    exact = outputs_and_gradients(composition(kind, strides), widened, cotangent)
    ours = outputs_and_gradients(fused(kind, strides), rounded, cotangent)
    layers = composition(kind, strides, normalize=lambda *tensors: batch_normalization(*tensors, EPSILON))
    plain = outputs_and_gradients(layers, rounded, cotangent)
    for fused_ones, plain_ones, exact_ones in zip(ours, plain, exact, strict=True):
        for tensor, composed, oracle in zip(fused_ones, plain_ones, exact_ones, strict=True):
            # As in the composition, twice the distance and some rounding beside.
            allowed = 2 * relative_distance(composed, oracle) + 16 * (2**-8 if dtype == tf.bfloat16 else 2**-23)
            assert relative_distance(tensor, oracle) < allowed


@pytest.mark.parametrize("along", [False, True], ids=["noise as g", "the signal as g"])
@pytest.mark.parametrize("amplitude", [1, 100, 1000])
def test_the_last_convolution_of_a_bottleneck_cancels_no_digits_either(amplitude, along):
    random = np.random.default_rng(0)
    signal = random.normal(size=(4, 8, 6, 1))
    x = amplitude * signal + 0.1 * random.normal(size=(4, 8, 6, 5))
    kernel = random.normal(size=(1, 1, 5, 8))
    kernel -= kernel.mean(2, keepdims=True)
    inputs = [np.float32(array) for array in (x, kernel, random.normal(size=8), random.normal(size=8))]
    g = np.float32(signal + 0.01 * random.normal(size=(4, 8, 6, 8)) if along else random.normal(size=(4, 8, 6, 8)))

    def plain(x, *weights):
        return batch_normalization(tf.nn.conv2d(x, weights[0], 1, "SAME"), *weights[1:], EPSILON)

    def distances(outputs, gradients):
        return [relative_distance(*pair) for pair in zip([*outputs, *gradients], [*exact[0], *exact[1]], strict=True)]

    exact = outputs_and_gradients(plain, [array.astype(np.float64) for array in inputs], g)
    projection = NormalizedProjection(Weights(*map(tf.constant, inputs[1:])), (1, 1), EPSILON)
    outputs = projection.forward(tf.constant(inputs[0]))
    dx, weights_gradients = projection.gradient_of(tf.constant(g), tf.constant(inputs[0]))
    ours = distances((outputs, *projection.statistics), (dx, *weights_gradients))
    for distance, allowed in zip(ours, distances(*outputs_and_gradients(plain, inputs, g)), strict=True):
        assert distance < 2 * allowed + 1e-6
