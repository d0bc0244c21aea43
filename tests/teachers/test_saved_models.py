"""Teachers from SavedModels: how they are called, fed and read, on small ones whose answers NumPy knows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from labeling.teachers import saved_models
from labeling.teachers.teacher import load_teacher
from tests.support.local_hub import serving
from tests.support.tiny_teachers import MeanColors, log_softmax, mean_color_logits, pictures, save_hub_module
from tfpipeline.system.errors import FlagError, UserError


def unit_logits(classes):
    return mean_color_logits(pictures(size=16) / 255, classes)


def check(teacher, expected):
    answered = teacher.log_probs(tf.cast(pictures(size=16), tf.float32))
    np.testing.assert_allclose(answered, expected, atol=1e-5)


@pytest.fixture(scope="module")
def hub_module(tmp_path_factory):
    return save_hub_module(tmp_path_factory.mktemp("hub") / "module", classes=5)


def test_hub_convention_is_called_without_training_and_fed_0_to_1(hub_module):
    teacher = load_teacher(str(hub_module))
    assert (teacher.size, teacher.classes, teacher.name) == (16, 5, "module")
    assert "range 0..1 (the TF-Hub convention), logits over 5 classes" in teacher.note
    check(teacher, log_softmax(unit_logits(5)))


@pytest.mark.parametrize("softmax", [False, True])
def test_background_of_1001_is_dropped(tmp_path, softmax):
    teacher = load_teacher(str(save_hub_module(tmp_path / "m", classes=1001, softmax=softmax)))
    assert teacher.classes == 1000
    assert teacher.conventions.output == ("probabilities" if softmax else "logits")
    assert "output 0 (background) dropped" in teacher.note
    check(teacher, log_softmax(unit_logits(1001)[:, 1:]))


@pytest.mark.parametrize("folder", ["run [lr=0.1]", "a\\b", "[a-c]*?"])
def test_the_path_of_a_teacher_is_no_pattern(tmp_path, folder):
    teacher = load_teacher(str(save_hub_module(tmp_path / folder / "m", classes=5)))
    check(teacher, log_softmax(unit_logits(5)))
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_1000_logits_are_all_classes(tmp_path):
    teacher = load_teacher(str(save_hub_module(tmp_path / "m", classes=1000)))
    assert not teacher.conventions.background
    check(teacher, log_softmax(unit_logits(1000)))


def test_signature_alone(tmp_path):
    module = MeanColors(5)
    function = tf.function(lambda inputs: {"answers": module(inputs)}, input_signature=[module.signature])
    plain = tf.Module()
    plain.inner = module
    tf.saved_model.save(plain, str(tmp_path / "m"), signatures=function.get_concrete_function())
    check(load_teacher(str(tmp_path / "m")), log_softmax(unit_logits(5)))


def test_keras_export(tmp_path):
    keras.utils.set_random_seed(0)  # Of other weights all answers may lie in 0..1, as those of sigmoids do.
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])
    assert np.asarray(model(pictures(size=16) / np.float32(255))).min() < 0
    model.export(str(tmp_path / "m"), verbose=False)
    expected = log_softmax(np.asarray(model(pictures(size=16) / np.float32(255))))
    check(load_teacher(str(tmp_path / "m")), expected)


def test_a_person_may_know_better(hub_module):
    teacher = load_teacher(str(hub_module), range="tf", size=16, classes=4)
    check(teacher, log_softmax(mean_color_logits(pictures(size=16) / 127.5 - 1, 5)[:, 1:]))
    assert "range tf (as told)" in teacher.note


def test_fingerprint_is_of_weights_and_conventions(tmp_path, hub_module):
    fingerprint = load_teacher(str(hub_module)).fingerprint
    assert load_teacher(str(hub_module)).fingerprint == fingerprint
    assert load_teacher(str(hub_module), range="tf").fingerprint != fingerprint
    other = save_hub_module(tmp_path / "other", classes=5, seed=1)
    assert load_teacher(str(other)).fingerprint != fingerprint


def test_a_size_that_any_fits_must_be_told(tmp_path):
    directory = str(save_hub_module(tmp_path / "m", classes=5, size=None))
    with pytest.raises(FlagError, match="images of any size; give --teacher-size"):
        load_teacher(directory)
    assert load_teacher(directory, size=16).size == 16


def test_a_number_of_classes_that_contradicts_the_network(hub_module):
    with pytest.raises(FlagError, match="answers 5 numbers, which cannot be --teacher-classes 7"):
        load_teacher(str(hub_module), classes=7)


def test_what_is_no_teacher(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist; give a SavedModel directory"):
        load_teacher(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"has no saved_model\.pb"):
        load_teacher(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(UserError, match="does not load as a SavedModel"):
        load_teacher(str(tmp_path))


def test_a_savedmodel_that_is_no_classifier(tmp_path):
    adder = tf.Module()
    adder.__call__ = tf.function(lambda a, b: a + b, input_signature=[tf.TensorSpec(()), tf.TensorSpec(())])
    tf.saved_model.save(adder, str(tmp_path / "adder"))
    with pytest.raises(UserError, match="cannot be called on images alone"):
        load_teacher(str(tmp_path / "adder"))
    blur = tf.Module()
    blur.__call__ = tf.function(lambda x: x, input_signature=[tf.TensorSpec((None, 8, 8, 3))])
    tf.saved_model.save(blur, str(tmp_path / "blur"))
    with pytest.raises(UserError, match="one row per image"):
        load_teacher(str(tmp_path / "blur"))


def test_a_handle_is_fetched_over_http_into_the_cache(tmp_path, monkeypatch, hub_module):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with serving({"/google/tiny/1": hub_module}) as address:
        fetched = load_teacher(f"{address}/google/tiny/1")
        with pytest.raises(UserError, match=r"could not be fetched .*403.*give the directory"):
            load_teacher(f"{address}/google/other/1")
    check(fetched, log_softmax(unit_logits(5)))
    assert fetched.name == "tiny"
    assert fetched.fingerprint == load_teacher(str(hub_module)).fingerprint
    assert load_teacher(f"{address}/google/tiny/1").fingerprint == fetched.fingerprint  # From the cache.


@pytest.mark.parametrize(
    ("handle", "size"),
    [
        ("https://tfhub.dev/google/tf2-preview/mobilenet_v2/classification/4", 224),
        ("https://tfhub.dev/google/tf2-preview/inception_v3/classification/4", 299),
        ("https://tfhub.dev/google/imagenet/mobilenet_v2_035_128/classification/5", 128),
        ("https://tfhub.dev/google/imagenet/resnet_v2_50/classification/5", 224),
        ("https://tfhub.dev/google/imagenet/efficientnet_v2_imagenet1k_b1/classification/2", 240),
        ("kaggle:google/mobilenet-v2/tensorFlow2/100-224-classification/2", 224),
        ("https://example.org/somebody/unknown/1", None),
    ],
)
def test_published_handles_have_their_size(monkeypatch, any_size_module, handle, size):
    monkeypatch.setattr(saved_models, "_resolve", lambda spec: any_size_module)
    if size is None:
        with pytest.raises(FlagError, match="--teacher-size"):
            load_teacher(handle)
    else:
        assert load_teacher(handle).size == size


@pytest.fixture(scope="module")
def any_size_module(tmp_path_factory):
    return save_hub_module(tmp_path_factory.mktemp("hub") / "any", classes=1001, size=None)
