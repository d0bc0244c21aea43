"""Random SavedModels are read as NumPy says, or refused in one line: inputs, structures and kinds of answers."""

import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies

from labeling.teachers.teacher import load_teacher
from tests.support.fuzz import fuzz
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures, weights
from tfpipeline.system.errors import FlagError, UserError

SIZE = 8
PICTURES = pictures(count=5, size=SIZE)
PICTURES[2] = 0  # a black one
INPUTS = (tf.float32, tf.float32, tf.float16, tf.uint8, tf.int32)
NO_PIXELS = (tf.int8, tf.bool, tf.complex64, tf.string)
SHAPES = {"static": (SIZE, SIZE, 3), "any size": (None, None, 3), "any rank": None}
NO_IMAGES = {"channels first": (3, SIZE, SIZE), "gray": (24, 24, 1), "a row": (SIZE**2 * 3,), "oblong": (8, 16, 3)}
STRUCTURES = {
    "a row": lambda row, x: row,
    "a list of one": lambda row, x: [row],
    "a dict of one": lambda row, x: {"anything": row},
    "beside features": lambda row, x: {"features": tf.reduce_mean(x, 1), "logits": row},
    "beside numbers": lambda row, x: [row, tf.argmax(row, 1)],
}
NO_STRUCTURES = {
    "two rows": lambda row, x: [row, row + 1],
    "a map": lambda row, x: row[:, None, None],
    "a column": lambda row, x: row[:, :, None],
    "one number": lambda row, x: row[:, :1],
    "integers": lambda row, x: tf.argmax(row, 1),
}
# What a row is made of its logits, and what it is to be read as.
ANSWERS = {
    "logits": (lambda z: z, "logits"),
    "small logits": (lambda z: 0.001 * z + 0.1, "logits"),
    "log-probabilities": (tf.nn.log_softmax, "logits"),
    "probabilities": (tf.nn.softmax, "probabilities"),
    "probabilities by hand": (lambda z: tf.exp(z) / tf.reduce_sum(tf.exp(z), 1, keepdims=True), "probabilities"),
    "sigmoids": (tf.sigmoid, "sigmoids"),
    "sigmoids by hand": (lambda z: 1 / (1 + tf.exp(-z)), "sigmoids"),
}


def save(directory, function, shape, dtype, is_signature):
    """Saves a SavedModel that is called, or has a signature alone."""
    module = tf.Module()
    call = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype, name="pixels")])
    if is_signature:
        tf.saved_model.save(module, directory, signatures=call)
    else:
        module.__call__ = call
        tf.saved_model.save(module, directory)


@fuzz(40)
@given(strategies.data())
def test_a_random_teacher_answers_as_numpy_says_or_is_refused_in_one_line(data):
    draw = data.draw
    odd = draw(strategies.sampled_from([None, None, None, "input", "shape", "structure", "NaN"]))
    dtype = draw(strategies.sampled_from(NO_PIXELS if odd == "input" else INPUTS))
    shape = draw(strategies.sampled_from(sorted(NO_IMAGES if odd == "shape" else SHAPES)))
    structure = draw(strategies.sampled_from(sorted(NO_STRUCTURES if odd == "structure" else STRUCTURES)))
    kind = draw(strategies.sampled_from(sorted(ANSWERS)))
    batch = draw(strategies.sampled_from([None, None, 1, 3]))
    classes = draw(strategies.integers(2, 9))
    is_black_nan = draw(strategies.booleans())
    is_half = draw(strategies.booleans())
    is_signature = draw(strategies.booleans())
    kernel, bias = weights(classes)
    make_row, read_as = ANSWERS[kind]

    def function(pixels):
        x = tf.reshape(
            tf.cast(tf.strings.length(pixels) if dtype == tf.string else pixels, tf.float32), (-1, SIZE**2, 3)
        )
        x = x / 255 if dtype.is_integer else x
        z = tf.reduce_mean(x, 1) @ kernel + bias
        row = make_row(z)
        if odd == "NaN":
            row = row * float("nan")
        elif is_black_nan:
            row = tf.where(tf.reduce_max(x, (1, 2))[:, None] > 0, row, float("nan"))
        row = tf.cast(row, tf.float16) if is_half else row
        return (STRUCTURES | NO_STRUCTURES)[structure](row, x)

    sizes = (SHAPES | NO_IMAGES)[shape]
    with tempfile.TemporaryDirectory() as directory:
        save(directory, function, None if sizes is None else (batch, *sizes), dtype, is_signature)
        size = SIZE if shape in ("any size", "any rank") else None
        if size and odd not in ("input", "shape"):
            with pytest.raises(FlagError, match="takes images of any size; give --teacher-size"):
                load_teacher(directory)
        if odd:
            with pytest.raises(UserError) as refusal:
                load_teacher(directory, size=size)
            assert str(refusal.value).startswith(f"teacher {directory} ") and "\n" not in str(refusal.value)
            return
        teacher = load_teacher(directory, size=size)
        found = teacher.log_probs(tf.cast(PICTURES, tf.float32)).numpy()
    logits = mean_color_logits(PICTURES / 255, classes)
    expected = log_softmax(0.001 * logits if kind == "small logits" else logits)
    if is_black_nan:
        assert np.isnan(found[2]).all()
    found, expected = np.delete(found, 2, 0), np.delete(expected, 2, 0)
    if is_half or dtype == tf.float16:  # A sigmoid of 0.98 has two digits of 1 - 0.98.
        np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-2)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (teacher.classes, teacher.conventions.output) == (classes, read_as)
