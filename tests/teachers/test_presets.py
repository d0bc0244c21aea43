"""Presets of Keras Hub as teachers: their own preprocessing, and nothing that may do more than compute."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging import Expert, freeze
from labeling.teachers.teacher import load_teacher
from tests.support.tiny_teachers import log_softmax, pictures
from tfpipeline.images import IDENTITY
from tfpipeline.system import UserError

PICTURES = pictures(size=32)
SCALE, OFFSET = [0.02, 0.019, 0.018], [-2.0, -1.9, -1.8]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """(folder of a preset, the classifier in it)"""
    from tests.support.tiny_presets import save_preset  # needs keras-hub

    folder = tmp_path_factory.mktemp("presets") / "tiny"
    return folder, save_preset(folder, SCALE, OFFSET)


def copy(preset, place):
    """The preset in another folder, to be changed."""
    place.mkdir()
    for path in preset[0].iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.mark.extras
@pytest.mark.parametrize("spec", ["preset:{}", "{}"])
def test_it_is_fed_as_its_preprocessor_says(preset, spec):
    teacher = load_teacher(spec.format(preset[0]))
    assert "32x32 pixels in the range 0..255 (its preset preprocesses them), logits over 5 classes" in teacher.note
    expected = log_softmax(preset[1](PICTURES * np.float32(SCALE) + np.float32(OFFSET), training=False).numpy())
    np.testing.assert_allclose(teacher.log_probs(tf.cast(PICTURES, tf.float32)), expected, atol=1e-4)
    frozen = freeze([Expert(teacher, "bilinear")], [[IDENTITY]], PICTURES.shape[1:])
    np.testing.assert_allclose(frozen(tf.constant(PICTURES[:5]))[0][:, 0], expected[:5], atol=1e-4)


@pytest.mark.extras
def test_the_fingerprint_is_that_of_its_weights_and_preprocessing(preset, tmp_path):
    first = load_teacher(str(preset[0]))
    folder = copy(preset, tmp_path / "other")
    (folder / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    (folder / "metadata.json").write_text((folder / "metadata.json").read_text() + "\n")
    again = load_teacher(str(folder))
    assert again.fingerprint == first.fingerprint
    assert (first.class_names, again.class_names) == (None, tuple("abcde"))
    for name in ("task.json", "preprocessor.json"):
        (folder / name).write_text((folder / name).read_text().replace("0.019", "0.0191"))
    assert load_teacher(str(folder)).fingerprint != first.fingerprint


@pytest.mark.extras
@pytest.mark.parametrize("name", ["model.weights.h5", "config.json", "task.json", "preprocessor.json"])
def test_half_a_file_is_refused_in_one_line(preset, tmp_path, name):
    folder = copy(preset, tmp_path / "half")
    (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    with pytest.raises(UserError, match=r"does not load as an image classifier of Keras Hub \([^\n]+\); get it again"):
        load_teacher(f"preset:{folder}")


@pytest.mark.extras
def test_a_preset_that_names_code_is_refused_before_it_is_made(preset, tmp_path):
    folder = copy(preset, tmp_path / "hostile")
    config = json.loads((folder / "task.json").read_text())
    config["config"]["backbone"]["module"], config["config"]["backbone"]["class_name"] = "os", "system"
    config["config"]["backbone"]["registered_name"] = None
    (folder / "task.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is of the class system, which keras does not have"):
        load_teacher(f"preset:{folder}")


@pytest.mark.extras
def test_names_that_nobody_publishes_are_refused_before_anything_is_fetched():
    for spec in ("preset:resnet_5000", "preset:hf://somebody/anything"):
        with pytest.raises(UserError, match="is no folder, and no preset that Keras Hub publishes, such as"):
            load_teacher(spec)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"needs the package keras-hub .*: pip install keras-hub"):
        load_teacher("preset:resnet_50_imagenet")
