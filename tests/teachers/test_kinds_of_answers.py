"""Networks that take and answer other things than a row of logits to any batch of floats: read right, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging import Expert, freeze
from labeling.teachers.teacher import load_teacher
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures
from tfpipeline.images import IDENTITY
from tfpipeline.system.errors import FlagError, UserError

PICTURES = pictures(size=16)
UNIT = mean_color_logits(PICTURES / 255, 5)


def logits(x):
    """The logits of mean colors for pixels in 0..1."""
    from tests.support.tiny_teachers import weights

    kernel, bias = weights(5)
    return tf.reduce_mean(x, (1, 2)) @ kernel + bias


def load(tmp_path, function, shape=(None, 16, 16, 3), dtype=tf.float32, **options):
    module = tf.Module()
    module.__call__ = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)])
    tf.saved_model.save(module, str(tmp_path / "m"))
    return load_teacher(str(tmp_path / "m"), **options)


def check(teacher, expected):
    """Asks the teacher eagerly, and as labeling does: frozen, one picture more than a power of two."""
    np.testing.assert_allclose(teacher.log_probs(tf.cast(PICTURES, tf.float32)), expected, atol=1e-4)
    frozen = freeze([Expert(teacher, "bilinear")], [[IDENTITY]], PICTURES.shape[1:])
    np.testing.assert_allclose(frozen(tf.constant(PICTURES[:5]))[0][:, 0], expected[:5], atol=1e-4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_sigmoids_are_read_as_the_logits_that_they_were_made_of(tmp_path):
    teacher = load(tmp_path, lambda x: tf.sigmoid(logits(x)))
    assert teacher.conventions.output == "sigmoids"
    assert "sigmoids (independent, they do not sum to 1) over 5 classes" in teacher.note
    # Given that exactly one of independent classes is true.
    s = sigmoid(UNIT)
    alone = np.stack([s[:, c] * np.prod(np.delete(1 - s, c, 1), axis=1) for c in range(5)], axis=1)
    check(teacher, np.log(alone / alone.sum(1, keepdims=True)))


def test_logits_that_all_lie_between_0_and_1_are_no_sigmoids(tmp_path):
    teacher = load(tmp_path, lambda x: 0.01 * logits(x) + 0.5)
    assert teacher.conventions.output == "logits"
    check(teacher, log_softmax(0.01 * UNIT))


def test_an_untrained_network_of_keras_whose_logits_lie_there_has_logits(tmp_path):
    small = {
        "kernel_initializer": keras.initializers.RandomUniform(0, 1e-4),
        "bias_initializer": keras.initializers.Constant(0.5),
    }

    def answers(x, activation):
        return keras.layers.Dense(5, activation=activation, **small)(keras.layers.GlobalAveragePooling2D()(x / 255))

    for activation, kind in ((None, "logits"), ("sigmoid", "sigmoids")):
        path = keras_file(tmp_path, lambda x, activation=activation: answers(x, activation))
        assert load_teacher(path).conventions.output == kind


def test_probabilities_of_which_some_are_left_away_are_no_sigmoids(tmp_path):
    teacher = load(tmp_path, lambda x: tf.nn.softmax(logits(x))[:, 1:])
    assert teacher.conventions.output == "probabilities"
    check(teacher, log_softmax(UNIT[:, 1:]))


def test_of_a_fixed_batch_the_operation_is_known_too(tmp_path):
    assert load(tmp_path, lambda x: tf.sigmoid(logits(x)), (3, 16, 16, 3)).network.operation == "Sigmoid"


def test_sigmoids_that_were_rounded_stay_finite(tmp_path):
    teacher = load(tmp_path, lambda x: tf.round(tf.sigmoid(logits(x) * 0.01 + [[9.0, -9, -9, -9, -9]])))
    assert np.isfinite(teacher.log_probs(tf.cast(PICTURES, tf.float32))).all()


def test_log_probabilities_are_logits(tmp_path):
    check(load(tmp_path, lambda x: tf.nn.log_softmax(logits(x))), log_softmax(UNIT))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int32, tf.int64, tf.uint16])
def test_whole_numbers_are_fed_0_to_255(tmp_path, dtype):
    teacher = load(tmp_path, lambda x: logits(tf.cast(x, tf.float32) / 255), dtype=dtype)
    assert f"in the range 0..255 (its input is {dtype.name})" in teacher.note
    check(teacher, log_softmax(UNIT))
    # The nearest whole number, not the one below.
    near = tf.cast(PICTURES, tf.float32) + 0.4 - 0.8 * tf.cast(PICTURES > 0, tf.float32)
    np.testing.assert_allclose(teacher.log_probs(near), log_softmax(UNIT), atol=1e-4)


def test_whole_numbers_in_another_range_are_refused(tmp_path):
    with pytest.raises(FlagError, match=r"takes whole numbers in 0\.\.255 .*, not --teacher-range tf; leave it out"):
        load(tmp_path, lambda x: logits(tf.cast(x, tf.float32)), dtype=tf.uint8, range="tf")


@pytest.mark.parametrize("dtype", [tf.int8, tf.bool, tf.complex64])
def test_inputs_that_are_no_pixels_are_refused(tmp_path, dtype):
    with pytest.raises(UserError, match=f"takes {dtype.name} .*, not pixels"):
        load(tmp_path, lambda x: logits(tf.cast(x, tf.float32)), dtype=dtype)


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_a_fixed_batch_is_filled_up(tmp_path, batch):
    check(load(tmp_path, logits, (batch, 16, 16, 3)), log_softmax(UNIT))


def test_an_input_of_unknown_rank_must_be_told_its_size(tmp_path):
    with pytest.raises(FlagError, match="takes images of any size; give --teacher-size"):
        load(tmp_path, lambda x: logits(tf.reshape(x, (-1, 16, 16, 3))), None)
    check(load_teacher(str(tmp_path / "m"), size=16), log_softmax(UNIT))


def test_logits_whose_rank_is_not_static(tmp_path):
    def function(x):
        answers = logits(x)
        return tf.reshape(answers, tf.concat([tf.shape(answers), tf.zeros((tf.shape(x)[0] * 0,), tf.int32)], 0))

    check(load(tmp_path, function), log_softmax(UNIT))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"logits": logits(x), "features": tf.reduce_mean(x, (1, 2))},
        lambda x: {"logits": logits(x), "probabilities": tf.nn.softmax(logits(x))},
        lambda x: {"anything": logits(x)},
        lambda x: {"classes": tf.fill((tf.shape(x)[0], 5), "a"), "answers": logits(x)},
        lambda x: [logits(x), tf.argmax(logits(x), 1), x],
    ],
    ids=["features beside", "both", "one entry", "names beside", "list"],
)
def test_of_several_answers_the_row_of_the_classes_is_read(tmp_path, function):
    check(load(tmp_path, function), log_softmax(UNIT))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: [logits(x), logits(x)], r"answers float32 \(B, 5\), float32 \(B, 5\); a classifier answers one row"),
        (lambda x: {"a": logits(x), "b": logits(x)}, r"answers a float32 \(B, 5\), b float32 \(B, 5\)"),
        (lambda x: logits(x)[:, :1], r"answers float32 \(B, 1\); a classifier answers one row per image"),
        (lambda x: tf.cast(logits(x), tf.int32), r"answers int32 \(B, 5\)"),
        (lambda x: logits(x)[:, None, None], r"answers float32 \(B, 1, 1, 5\)"),
        (lambda x: tf.math.top_k(logits(x), 3), r"answers float32 \(B, 3\), int32 \(B, 3\)"),
        (lambda x: {"scores": tf.sort(logits(x)), "classes": tf.argsort(logits(x))}, r"classes int32 \(B, 5\), scores"),
        (lambda x: tf.math.top_k(logits(x), 3)[0], "answers the 3 highest of its numbers, in the order of their size"),
        (lambda x: tf.RaggedTensor.from_tensor(logits(x)), r"answers float32 \(B, 5\); a classifier"),
        (lambda x: logits(x) + tf.random.normal((5,)), r"answers the same pictures otherwise each time \(by up to"),
        (lambda x: tf.nn.dropout(logits(x), 0.5), "it draws random numbers, such as those of dropout"),
        (
            lambda x: (tf.debugging.assert_less(tf.reduce_max(x), 0.5, "too bright"), logits(x))[1],
            r"does not take images of 16x16 pixels \(.*assertion failed: \[too bright\]",
        ),
    ],
)
def test_answers_that_are_not_one_row_are_refused_with_their_shapes(tmp_path, function, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, function)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, 3, 16, 16), "not a batch of RGB images"),
        ((None, 3, None, None), "not a batch of RGB images"),
        ((None, 16, 16, 1), "not a batch of RGB images"),
        ((None, 768), "not a batch of RGB images"),
        ((None, 16, 24, 3), "takes images of 16x24 pixels; only square ones"),
    ],
)
def test_inputs_that_are_no_square_rgb_images_are_refused(tmp_path, shape, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, lambda x: tf.reshape(x, (tf.shape(x)[0], -1))[:, :2], shape)


def test_a_handle_of_features_is_refused_by_its_name():
    for spec in ("https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/feature_vector/5",
                 "kaggle:google/mobilenet-v2/tensorFlow2/100-224-feature-vector/2"):  # fmt: skip
        with pytest.raises(UserError, match="answers a feature vector, no classes; give the handle of its class"):
            load_teacher(spec)


def keras_file(tmp_path, function, **options):
    inputs = keras.Input((16, 16, 3), **options)
    keras.Model(inputs, function(inputs)).save(tmp_path / "t.keras")
    return str(tmp_path / "t.keras")


def head(x, classes=5):
    return keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x)))


def test_features_of_keras_are_refused_by_their_layer(tmp_path):
    path = keras_file(
        tmp_path,
        lambda x: keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(9, 3, activation="relu")(x)),
    )
    with pytest.raises(
        UserError, match=r"answers 9 numbers that are never negative .* its layer pool: a feature vector"
    ):
        load_teacher(path, range="0..255")


def base(name="mobilenetv2_1.00_16"):
    inner = keras.Input((16, 16, 3))
    return keras.Model(inner, head(inner), name=name)


SHIFT, SCALE = np.float32([120, 118, 110]), np.float32([60, 58, 57])


@pytest.mark.parametrize(
    ("first", "range"),
    [
        (keras.applications.mobilenet_v2.preprocess_input, "0..255"),
        (keras.applications.vgg16.preprocess_input, "0..255"),
        (keras.applications.densenet.preprocess_input, "0..255"),
        (lambda x: x / 255.0, "0..255"),
        (lambda x: (x - 128.0) / 64.0, "0..255"),
        (lambda x: keras.layers.ZeroPadding2D(2)(x / 127.5 - 1.0)[:, 2:-2, 2:-2], "0..255"),
        (lambda x: x * 2.0 - 1.0, "0..1"),
        (lambda x: (x - 0.45) / 0.22, "0..1"),
        (lambda x: (x + 1.0) / 2.0, "tf"),
        (lambda x: keras.layers.Rescaling(1 / 127.5, -1)(x), "0..255"),
        (lambda x: keras.layers.Normalization(mean=SHIFT, variance=SCALE**2)(x), "0..255"),
    ],
)
def test_operations_before_the_first_weights_tell_the_range(tmp_path, first, range):
    teacher = load_teacher(keras_file(tmp_path, lambda x: base()(first(x))))
    assert teacher.conventions.range == range
    assert teacher.network.range_is_certain


def test_operations_in_a_model_inside_are_found(tmp_path):
    outer = keras.Input((16, 16, 3))
    inside = keras.Model(outer, outer / 127.5 - 1.0)
    assert load_teacher(keras_file(tmp_path, lambda x: base()(inside(x)))).conventions.range == "0..255"


def test_without_such_operations_the_name_decides(tmp_path):
    teacher = load_teacher(keras_file(tmp_path, lambda x: base()(keras.layers.RandomFlip()(x))))
    assert (teacher.conventions.range, teacher.network.range_is_certain) == ("tf", False)


def test_keras_with_a_fixed_batch_of_whole_numbers_and_a_dict(tmp_path):
    path = keras_file(
        tmp_path,
        lambda x: {"logits": head(x / 255.0), "features": keras.ops.mean(x, (1, 2))},
        batch_size=3,
        dtype="uint8",
    )
    model = keras.models.load_model(path)
    expected = [log_softmax(model(PICTURES[start : start + 3])["logits"].numpy()) for start in (0, 3, 5)]
    check(load_teacher(path), np.concatenate([*expected[:2], expected[2][1:]]))
