"""Teachers that are asked at another size than their own: what NumPy says of that size, or one line."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from labeling.teachers import TeacherFlags
from labeling.teachers.teacher import load_teacher
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures, save_hub_module
from tfpipeline.system.errors import FlagError, UserError

OWN, OTHER = 16, 24


def save_convolutions(path):
    """A Keras model of strided, padded convolutions and a mean over all places, and what it is at the other size."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(6, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(keepdims=True),
        keras.layers.Dropout(0.5),
        keras.layers.Conv2D(5, 1),
        keras.layers.Reshape((5,)),
        keras.layers.Softmax(),
    ]
    own, other = (keras.Sequential([keras.Input((size, size, 3)), *layers]) for size in (OWN, OTHER))
    own.save(path)
    return other


def test_a_savedmodel_of_a_fixed_size_answers_at_another(tmp_path):
    directory = str(save_hub_module(tmp_path / "m", classes=5))
    teacher = load_teacher(directory, size=OTHER)
    assert teacher.size == OTHER
    assert teacher.conventions.output == "logits"
    images = pictures(size=OTHER)
    answered = teacher.log_probs(tf.cast(images, tf.float32))
    np.testing.assert_allclose(answered, log_softmax(mean_color_logits(images / 255, 5)), atol=1e-5)
    assert teacher.fingerprint != load_teacher(directory).fingerprint


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_of_a_fixed_size_answers_at_another(tmp_path, suffix):
    expected = save_convolutions(tmp_path / f"m{suffix}")
    teacher = load_teacher(str(tmp_path / f"m{suffix}"), range="0..1", size=OTHER)
    images = tf.cast(pictures(size=OTHER), tf.float32)
    np.testing.assert_allclose(teacher.log_probs(images), np.log(expected(images / 255)), atol=1e-5)
    assert (teacher.size, teacher.conventions.output) == (OTHER, "probabilities")


def test_a_network_that_takes_no_other_size_is_refused_by_name(tmp_path):
    model = keras.Sequential([keras.Input((OWN, OWN, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    model.save(tmp_path / "flat.keras")
    with pytest.raises(UserError, match=r"flat\.keras does not take images of 24x24 pixels .*another --teacher-size"):
        load_teacher(str(tmp_path / "flat.keras"), range="0..1", size=OTHER)


class Patches(tf.Module):
    """A classifier of patches of the size OWN, of which an image has one."""

    @tf.function(input_signature=[tf.TensorSpec((None, OWN, OWN, 3))])
    def __call__(self, images):
        return tf.reshape(tf.nn.avg_pool2d(images, OWN, OWN, "VALID"), (-1, 3))


def test_a_network_that_answers_several_rows_to_a_larger_image_is_refused(tmp_path):
    tf.saved_model.save(Patches(), str(tmp_path / "m"))
    assert load_teacher(str(tmp_path / "m")).classes == 3
    with pytest.raises(UserError, match=r"m answers 8 rows to 2 images of 32x32 pixels; give another --teacher-size"):
        load_teacher(str(tmp_path / "m"), size=2 * OWN)


def test_sizes_are_those_of_each_teacher():
    def sizes(teachers, *given):
        return TeacherFlags(teacher=("t",) * teachers, teacher_size=given).sizes_for_each()

    assert sizes(2) == ((None,), (None,))
    assert sizes(2, "224,160") == ((224, 160), (224, 160))
    assert sizes(2, "224, 160", "192") == ((224, 160), (192,))
    assert sizes(1, 224) == ((224,),)


@pytest.mark.parametrize("given", ["", "0", "-1", "1.5", "224,", "224x160", "²"])
def test_what_is_no_size_is_named(given):
    with pytest.raises(FlagError, match=f"--teacher-size {given} is no size in pixels; give a whole number"):
        TeacherFlags(teacher=("t",), teacher_size=(given,))


def test_a_size_counts_once():
    with pytest.raises(FlagError, match="--teacher-size 224,160,224 gives a size twice"):
        TeacherFlags(teacher=("t",), teacher_size=("224,160,224",))
