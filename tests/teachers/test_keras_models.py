"""Teachers from Keras files and names: the range that they want is found, or asked for."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from labeling.teachers import conventions
from labeling.teachers.teacher import load_teacher
from tests.support.tiny_teachers import pictures
from tfpipeline.system.errors import FlagError, UserError

SIZE = 64


def normalizing_classifier(library, range, name="mine"):
    """A convolution and a batch normalization that was trained on shapes in that range, then 6 softmax outputs."""
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 3, 3, 24)).astype(np.float32) / 5
    seen = tf.nn.conv2d(conventions.to_range(tf.cast(pictures(60), tf.float32), range), kernel, 2, "SAME")
    mean, variance = tf.nn.moments(seen, (0, 1, 2))
    layers = library.layers
    inputs = library.Input((SIZE, SIZE, 3))
    convolution = layers.Conv2D(24, 3, 2, padding="same", use_bias=False)
    norm = layers.BatchNormalization()
    x = layers.ReLU()(norm(convolution(inputs)))
    outputs = layers.Dense(6, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = library.Model(inputs, outputs, name=name)
    convolution.set_weights([kernel])
    norm.set_weights([np.ones(24), np.zeros(24), mean, variance])
    return model


def plain_classifier(first_layers, name="mine"):
    """No batch normalization: nothing in it tells the range but its first layers and its name."""
    layers = [*first_layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(6)]
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers], name=name)


def saved(model, path):
    model.save(str(path))
    return str(path)


@pytest.mark.parametrize("range", conventions.RANGES)
def test_the_range_is_read_off_the_first_batch_normalization(tmp_path, range):
    model = normalizing_classifier(keras, range)
    teacher = load_teacher(saved(model, tmp_path / "mine.keras"))
    assert teacher.conventions.range == range
    assert teacher.conventions.output == "probabilities"
    images = tf.cast(pictures(), tf.float32)
    expected = np.log(model(conventions.to_range(images, range), training=False))
    np.testing.assert_allclose(teacher.log_probs(images), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_legacy_h5_is_read_by_the_keras_that_wrote_it(tmp_path):
    model = normalizing_classifier(tf_keras, "0..255")
    teacher = load_teacher(saved(model, tmp_path / "mine.h5"))
    assert teacher.conventions.range == "0..255"
    assert isinstance(teacher.network.owner, tf_keras.Model)
    images = tf.cast(pictures(), tf.float32)
    np.testing.assert_allclose(teacher.log_probs(images), np.log(model(images, training=False)), atol=1e-4)


def test_a_model_that_rescales_inside_is_fed_0_to_255(tmp_path):
    model = plain_classifier([keras.layers.Rescaling(1 / 127.5, offset=-1)])
    teacher = load_teacher(saved(model, tmp_path / "mine.keras"))
    assert teacher.conventions.range == "0..255"
    assert "its layer rescaling" in teacher.note


def test_a_name_of_keras_applications_tells_the_range(tmp_path):
    teacher = load_teacher(saved(plain_classifier([], name="vgg16"), tmp_path / "x.keras"))
    assert teacher.conventions.range == "caffe"


def test_a_range_that_nothing_tells_must_be_told(tmp_path):
    path = saved(plain_classifier([]), tmp_path / "mine.keras")
    with pytest.raises(FlagError, match=r"nothing in the model tells; give --teacher-range, one of 0\.\.1"):
        load_teacher(path)
    assert load_teacher(path, range="torch").conventions.range == "torch"


@pytest.mark.parametrize(("mode", "range"), [("tf", "tf"), ("caffe", "caffe"), ("torch", "torch")])
def test_ranges_are_those_of_keras_applications(mode, range):
    images = pictures(size=16).astype(np.float32)
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
    np.testing.assert_allclose(conventions.to_range(tf.constant(images), range), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "model_name", "range"),
    [
        ("MobileNetV2", "mobilenetv2_1.00_224", "tf"),
        ("InceptionResNetV2", "inception_resnet_v2", "tf"),
        ("Xception", "xception", "tf"),
        ("NASNetMobile", "NASNet", "tf"),
        ("ResNet50", "resnet50", "caffe"),
        ("ResNet50V2", "resnet50v2", "tf"),
        ("VGG19", "vgg19", "caffe"),
        ("DenseNet121", "densenet121", "torch"),
    ],
)
def test_keras_applications_by_name(monkeypatch, name, model_name, range):
    """The family decides, whatever the statistics of a stand-in say."""
    module = getattr(keras.applications, name).__module__.rpartition(".")[2]
    preprocess = getattr(keras.applications, module).preprocess_input
    stand_in = normalizing_classifier(keras, "0..255", name=model_name)
    monkeypatch.setattr(keras.applications, name, lambda weights: {"imagenet": stand_in}[weights])
    teacher = load_teacher(f"keras:{name}")
    assert (teacher.conventions.range, teacher.name) == (range, f"keras:{name}")
    images = pictures().astype(np.float32)
    expected = np.log(np.maximum(stand_in(preprocess(images.copy()), training=False), 1e-38))
    np.testing.assert_allclose(teacher.log_probs(tf.constant(images)), expected, atol=1e-3)


RESCALING = {
    "mobilenet_v3": "MobileNetV3Small",
    "efficientnet": "EfficientNetB0",
    "efficientnet_v2": "EfficientNetV2B0",
}
RESCALING["convnext"] = "ConvNeXtTiny"


@pytest.mark.slow
@pytest.mark.parametrize("name", RESCALING.values())
def test_keras_applications_that_rescale_inside(monkeypatch, name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3)
    monkeypatch.setattr(keras.applications, name, lambda weights: model)
    assert load_teacher(f"keras:{name}").conventions.range == "0..255"


@pytest.mark.parametrize("name", [name for name in dir(keras.applications) if name[0].isupper()])
def test_every_keras_application_is_fed_as_its_preprocess_input_does(monkeypatch, name):
    family = getattr(keras.applications, name).__module__.rpartition(".")[2]
    inside = [keras.layers.Rescaling(1 / 255)] if family in RESCALING else []
    stand_in = plain_classifier(inside, name=name.lower())
    monkeypatch.setattr(keras.applications, name, lambda weights: stand_in)
    images = pictures().astype(np.float32)
    expected = getattr(keras.applications, family).preprocess_input(images.copy())
    found = conventions.to_range(tf.constant(images), load_teacher(f"keras:{name}").conventions.range)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"Keras Applications has no MobileNetV9; it has .*MobileNetV2"):
        load_teacher("keras:MobileNetV9")


def test_what_is_no_keras_model(tmp_path):
    whole = pathlib.Path(saved(plain_classifier([]), tmp_path / "whole.keras"))
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"cut\.keras is no whole Keras model"):
        load_teacher(str(cut))
    with pytest.raises(UserError, match=r"gone\.h5 does not exist"):
        load_teacher(str(tmp_path / "gone.h5"))
    weights_alone = tmp_path / "some.weights.h5"
    plain_classifier([]).save_weights(str(weights_alone))
    with pytest.raises(UserError, match="weights alone are not enough"):
        load_teacher(str(weights_alone))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_code_inside_a_file_is_not_run(tmp_path):
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), tf_keras.layers.Lambda(lambda x: x[:, 0, 0] * 2)])
    with pytest.raises(UserError, match="has a Lambda layer, whose code would be run"):
        load_teacher(saved(model, tmp_path / "code.h5"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "range", "classes", "output"),
    [
        ("mobilenet_v1_0.75_224.keras", "tf", 1000, "probabilities"),
        ("cifar10_resnet8.h5", "0..255", 10, "probabilities"),
        ("mobilenet_v2_100_224", "0..1", 1000, "logits"),
    ],
)
def test_real_teachers_need_no_flags(real_data, file, range, classes, output):
    teacher = load_teacher(str(real_data / "teachers" / file))
    assert (teacher.conventions.range, teacher.classes, teacher.conventions.output) == (range, classes, output)
