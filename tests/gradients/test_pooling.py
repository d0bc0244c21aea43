import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gradients.global_pooling import global_max_pooling, global_mean_pooling
from models.gradients.max_pooling import max_pooling
from models.gradients.mean_pooling import mean_pooling
from models.gradients.windows import windows_on
from tests.support import oracles

POOLS = {
    "max": (max_pooling, oracles.max_pooling, oracles.max_pooling_gradient),
    "mean": (
        mean_pooling,
        oracles.mean_pooling,
        lambda x, g, *geometry: oracles.mean_pooling_gradient(x.shape, g, *geometry),
    ),
}


@st.composite
def geometries(draw):
    """(shape of the images, window, strides, padding) such that at least one window fits."""
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    side = [st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)) for size in window]
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*side)))
    shape = draw(st.tuples(st.integers(1, 2), st.integers(window[0], 6), st.integers(window[1], 7), st.integers(1, 3)))
    return shape, window, strides, padding


def value_and_gradient(function, images, cotangent_seed=1):
    """(y, g, dL/dx) for a random g, as arrays."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        result = function(images)
    cotangent = np.random.default_rng(cotangent_seed).standard_normal(result.shape)
    gradient = tape.gradient(result, images, output_gradients=tf.cast(cotangent, result.dtype))
    return result, cotangent, gradient


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("distinct", [True, False], ids=["distinct", "ties"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries())
def test_equals_loops(name, distinct, geometry):
    shape, window, strides, padding = geometry
    ours, loops, loops_gradient = POOLS[name]
    random = np.random.default_rng(0)
    images = random.standard_normal(shape) if distinct else random.integers(-1, 1, shape).astype(float)
    both = windows_on(images.shape, window, strides, padding).padding
    result, cotangent, gradient = value_and_gradient(lambda x: ours(x, window, strides, padding), images)
    np.testing.assert_allclose(result, loops(images, window, strides, both), atol=1e-10)
    oracles.assert_gradient(gradient, loops_gradient(images, cotangent, window, strides, both), 1e-10)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("window, strides", [((2, 3), (1, 2)), ((3, 1), (2, 2)), ((1, 2), (3, 1))])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_gradient_equals_finite_differences(name, window, strides, padding):
    images = np.random.default_rng(0).standard_normal((2, 5, 4, 3))

    def pool(x):
        return POOLS[name][0](tf.constant(x), window, strides, padding)

    _, cotangent, gradient = value_and_gradient(pool, images)
    oracles.assert_gradient(gradient, oracles.finite_difference_gradient(pool, images, cotangent), 1e-6)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("window, strides, padding", [(2, 2, "valid"), (3, 2, "same"), (3, 1, ((1, 0), (2, 1)))])
def test_first_of_equal_elements_gets_the_gradient_on_every_engine(dtype, compiled, window, strides, padding):
    images = np.random.default_rng(0).integers(0, 2, (2, 6, 8, 16)).astype(float)
    pool = tf.function(lambda x: max_pooling(x, window, strides, padding), jit_compile=compiled)
    _, cotangent, gradient = value_and_gradient(pool, images.astype(dtype.as_numpy_dtype))
    geometry = (window,) * 2, (strides,) * 2, windows_on(images.shape, (window,) * 2, (strides,) * 2, padding).padding
    expected = oracles.max_pooling_gradient(images, cotangent, *geometry)
    oracles.assert_gradient(tf.cast(gradient, tf.float64), expected, 1e-6 if dtype != tf.bfloat16 else 2e-2)


@pytest.mark.parametrize("name", POOLS)
def test_unknown_sizes_and_bfloat16(name):
    images = np.random.default_rng(0).standard_normal((2, 7, 5, 3))
    spec = tf.TensorSpec((None, None, None, 3), tf.bfloat16)
    pool = tf.function(lambda x: POOLS[name][0](x, 3, 2, "same"), input_signature=[spec])
    result, cotangent, gradient = value_and_gradient(pool, tf.cast(images, tf.bfloat16))
    rounded = np.array(tf.cast(tf.cast(images, tf.bfloat16), tf.float64))
    geometry = (3, 3), (2, 2), windows_on(images.shape, (3, 3), (2, 2), "same").padding
    oracles.assert_gradient(tf.cast(result, tf.float64), POOLS[name][1](rounded, *geometry), 2e-2)
    oracles.assert_gradient(tf.cast(gradient, tf.float64), POOLS[name][2](rounded, cotangent, *geometry), 2e-2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 6, 2), (3, 1, 1, 1)])
def test_global_pools_equal_pools_as_large_as_the_image(shape):
    images = np.random.default_rng(0).integers(-2, 2, shape).astype(float)
    for global_pool, name in ((global_max_pooling, "max"), (global_mean_pooling, "mean")):
        result, cotangent, gradient = value_and_gradient(global_pool, images)
        geometry = shape[1:3], shape[1:3], ((0, 0), (0, 0))
        np.testing.assert_allclose(result, POOLS[name][1](images, *geometry)[:, 0, 0], atol=1e-10)
        expected = POOLS[name][2](images, cotangent[:, None, None], *geometry)
        oracles.assert_gradient(gradient, expected, 1e-10)


@pytest.mark.parametrize("name", POOLS)
def test_a_gradient_with_swapped_axes_is_rejected(name):
    images = np.random.default_rng(0).standard_normal((5, 5, 5, 5))
    _, cotangent, gradient = value_and_gradient(lambda x: POOLS[name][0](x, 3, 2, "same"), images)
    expected = POOLS[name][2](images, cotangent, (3, 3), (2, 2), ((1, 1), (1, 1)))
    oracles.assert_rejects_swapped_axes(gradient, expected, 1e-10)


def test_global_pools_gradients_equal_finite_differences():
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for pool in (global_max_pooling, global_mean_pooling):
        _, cotangent, gradient = value_and_gradient(pool, images)
        expected = oracles.finite_difference_gradient(lambda x, pool=pool: pool(tf.constant(x)), images, cotangent)
        oracles.assert_gradient(gradient, expected, 1e-6)


def test_wrong_geometries_are_named():
    images = tf.zeros((1, 2, 5, 3))
    with pytest.raises(ValueError, match=r"windows of 3x3 do not fit into images of 2x5"):
        max_pooling(images, 3)
    with pytest.raises(ValueError, match=r"padding \(\(2, 0\), \(0, 0\)\) leaves a pool of 2x2 outside"):
        mean_pooling(images, 2, padding=((2, 0), (0, 0)))
    with pytest.raises(ValueError, match=r"got 'Same'"):
        max_pooling(images, 2, padding="Same")
    with pytest.raises(ValueError, match=r"strides must be a positive integer or two of them, got 0"):
        max_pooling(images, 2, 0)


def test_global_mean_of_float16_keeps_its_value_on_large_images():
    """In float16 the sum of 64x64 ones is already wrong, and 256x256 is no finite number."""
    mean, cotangent, gradient = value_and_gradient(global_mean_pooling, np.ones((1, 256, 256, 2), np.float16))
    np.testing.assert_array_equal(mean, np.ones((1, 2)))
    expected = np.broadcast_to(cotangent[:, None, None] / 256**2, gradient.shape)
    np.testing.assert_allclose(gradient, expected, rtol=2e-2, atol=6e-8)


NAN, INF = float("nan"), float("inf")
SPECIAL = [NAN, -INF, INF, 0.0, 1.0, -2.0]


def largest_by_rule(elements):
    """(value, place) of the largest of a list, where NaN is above all numbers and the first of equal ones counts."""
    for place, element in enumerate(elements):
        if np.isnan(element):
            return element, place
    place = int(np.argmax(elements))
    return elements[place], place


def max_pooling_by_rule(images, cotangent, window, strides, padding):
    """(y, dL/dx), a window after the other."""
    result, gradient = np.zeros(cotangent.shape), np.zeros(images.shape)
    for h, w, rows, columns in oracles.windows(images.shape, window, strides, padding):
        places = [(i, j) for _, i in rows for _, j in columns]
        for b, c in np.ndindex(images.shape[0], images.shape[3]):
            result[b, h, w, c], place = largest_by_rule([images[b, i, j, c] for i, j in places])
            gradient[b, *places[place], c] += cotangent[b, h, w, c]
    return result, gradient


def special_images(shape, special, seed=0):
    """Numbers among which are these: half of all elements."""
    random = np.random.default_rng(seed)
    chosen = random.choice(special, shape)
    return np.where(random.random(shape) < 0.5, chosen, random.integers(-3, 4, shape))


WAYS = {
    "eager": {},
    "graph": {},
    "graph of unknown sizes": {"input_signature": [tf.TensorSpec((None, None, None, 3), tf.float32)]},
    "XLA": {"jit_compile": True},
}


@pytest.mark.parametrize(
    "way, dtype, special",
    [
        *(("eager", dtype, SPECIAL) for dtype in (tf.float32, tf.float64, tf.bfloat16, tf.float16)),
        *(("graph", tf.float32, special) for special in ([NAN], [-INF], [INF], SPECIAL)),
        ("graph", tf.bfloat16, SPECIAL),
        *(pytest.param(way, tf.float32, SPECIAL, marks=pytest.mark.slow) for way in ("graph of unknown sizes", "XLA")),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "window, strides, padding",
    [((2, 2), (2, 2), "valid"), ((3, 2), (2, 1), "same"), ((3, 3), (1, 1), ((2, 0), (1, 2)))],
)
def test_nan_is_the_largest_and_minus_infinity_a_number_on_every_engine(way, dtype, special, window, strides, padding):
    images = special_images((2, 6, 5, 3), special)
    # A window of nothing but -inf, and at the edge one whose other places are padding.
    images[0, :3, :3, 0] = -INF

    def pool(x):
        return max_pooling(x, window, strides, padding)

    pool = pool if way == "eager" else tf.function(pool, **WAYS[way])
    x = tf.cast(images, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = pool(x)
    cotangent = np.random.default_rng(1).integers(1, 9, result.shape).astype(float)
    gradient = tape.gradient(result, x, output_gradients=tf.cast(cotangent, dtype))
    pads = windows_on(images.shape, window, strides, padding).padding
    expected, expected_gradient = max_pooling_by_rule(images, cotangent, window, strides, pads)
    np.testing.assert_array_equal(tf.cast(result, tf.float64), expected)
    np.testing.assert_array_equal(tf.cast(gradient, tf.float64), expected_gradient)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("compiled", [False, True])
def test_global_pooling_has_the_same_rule(dtype, compiled):
    images = special_images((3, 4, 5, 2), SPECIAL)
    images[0, ..., 0] = -INF
    pool = tf.function(global_max_pooling, jit_compile=compiled)
    result, cotangent, gradient = value_and_gradient(pool, np.asarray(images, dtype.as_numpy_dtype))
    cotangent = np.asarray(tf.cast(tf.cast(cotangent, dtype), tf.float64))[:, None, None]
    expected, expected_gradient = max_pooling_by_rule(images, cotangent, (4, 5), (4, 5), ((0, 0), (0, 0)))
    np.testing.assert_array_equal(tf.cast(result, tf.float64), expected[:, 0, 0])
    np.testing.assert_array_equal(tf.cast(gradient, tf.float64), expected_gradient)


def test_images_that_turn_out_too_small_are_refused_when_the_graph_runs():
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    pool = tf.function(lambda x: max_pooling(x, 2), input_signature=signature)
    assert pool(tf.zeros((1, 2, 3, 3))).shape == (1, 1, 1, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="windows of 2x2 do not fit into the images"):
        pool(tf.zeros((1, 1, 3, 3)))
