"""Exported networks answer as Keras does, and one that does not is not published."""

import json
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs import command, export, train
from jobs.training import image_flags_of_run
from models import export as model_export
from models import networks
from tfpipeline.system.errors import UserError
from tfpipeline.system.flags import flat, from_flat

pytestmark = pytest.mark.slow

IMAGES = 40


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    """A run as jobs.train leaves it, with a network of every operation that an export meets."""
    place = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    return write_run(place / "run", networks.build("fast_resnet", (64, 64, 3), 12, width=4), place / "cache")


def write_run(directory, model, cache):
    directory.mkdir()
    for variable in model.variables:
        if "moving" in variable.path:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    model.save(directory / "model.keras")
    flags = {"images": "shapes", "limit": IMAGES, "cache": str(cache), "labels": "truth", "run": str(directory)}
    flags = flat(from_flat(train.Config, flags))
    (directory / "config.json").write_text(json.dumps({"flags": flags}))
    return directory


def config_of(run_directory, form, out, *more):
    argv = ["--run", str(run_directory), "--to", form, "--out", str(out), "--quiet", *map(str, more)]
    return command.parse(export.Config, argv, "export", "")


def test_a_savedmodel_answers_by_name_and_when_called(tmp_path, run_directory, capsys):
    figures = export.run(config_of(run_directory, "savedmodel", tmp_path / "out"))
    assert figures["images_checked"] == figures["same_top1"] == IMAGES
    assert figures["max_log_prob_difference"] < 1e-4
    assert "first answer is Keras's on 40 of 40 images" in capsys.readouterr().out
    images = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    expected = keras.models.load_model(run_directory / "model.keras")(images, training=False)
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-4, atol=1e-4)
    named = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(named["logits"], expected, rtol=1e-4, atol=1e-4)


def test_a_litert_file_answers_batches_of_any_size(tmp_path, run_directory):
    figures = export.run(config_of(run_directory, "litert", tmp_path / "deep" / "out.tflite"))
    assert figures["same_top1"] == IMAGES and figures["max_log_prob_difference"] < 1e-4
    assert figures["bytes"] == (tmp_path / "deep" / "out.tflite").stat().st_size
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.tflite"]
    answer = model_export.open_litert(tmp_path / "deep" / "out.tflite")
    images = np.random.default_rng(0).uniform(0, 255, (5, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(answer(images)[2:3], answer(images[2:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.extras
def test_an_onnx_file_answers_like_keras(tmp_path, run_directory):
    figures = export.run(config_of(run_directory, "onnx", tmp_path / "out.onnx"))
    assert figures["same_top1"] == IMAGES and figures["max_log_prob_difference"] < 1e-4


def test_onnx_without_its_packages_says_what_to_install(tmp_path, run_directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"--to onnx needs tf2onnx .*: pip install tf2onnx onnx onnxruntime, or choose"):
        export.run(config_of(run_directory, "onnx", tmp_path / "out.onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["savedmodel", "litert"])
def test_a_network_that_answers_otherwise_is_not_published(tmp_path, run_directory, monkeypatch, form):
    write = model_export.WRITERS[form]

    def write_another(model, path):
        keras.utils.set_random_seed(1)
        write(networks.build("patchify_net", (64, 64, 3), 12, filters=2, hidden=4), path)

    monkeypatch.setitem(model_export.WRITERS, form, write_another)
    with pytest.raises(
        UserError, match=r"not the one that Keras runs: the same first answer on .* nothing was written"
    ):
        export.run(config_of(run_directory, form, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_answers_that_are_no_numbers_do_not_pass():
    model = networks.build("patchify_net", (4, 4, 3), 3, filters=2, hidden=4)
    images = np.zeros((2, 4, 4, 3), np.uint8)
    found = model_export.check(model, lambda batch: np.full((len(batch), 3), np.nan), images)
    assert not found.passed


def test_a_mixed_precision_network_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = networks.build("conv_classifier", (8, 8, 3), 3, filters_per_layer=(4,), hidden_dims=(4,))
    finally:
        keras.config.set_dtype_policy("float32")
    exact = model_export.in_float32(mixed)
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(exact(images), mixed(images), rtol=0.1, atol=0.1)
    path = tmp_path / "mixed.tflite"
    model_export.write_litert(exact, path)
    assert model_export.check(exact, model_export.open_litert(path), images.astype(np.uint8)).passed


def test_the_images_are_the_runs_own_or_those_that_are_named(tmp_path, run_directory):
    flags = image_flags_of_run(run_directory, cache="elsewhere")
    assert (flags.images, flags.limit, flags.split, flags.cache) == ("shapes", IMAGES, "train", "elsewhere")
    given = ("--images", "shapes", "--split", "valid", "--limit", 9, "--check", 4, "--cache", tmp_path / "cache")
    assert export.run(config_of(run_directory, "litert", tmp_path / "a", *given))["images_checked"] == 3


def test_a_run_without_a_finished_network_or_config(tmp_path, run_directory):
    with pytest.raises(UserError, match=r"model.keras is not there: finish the training"):
        export.run(config_of(tmp_path, "litert", tmp_path / "out"))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.keras").write_bytes(pathlib.Path(run_directory / "model.keras").read_bytes())
    with pytest.raises(UserError, match=r"config.json does not say which images the run had .*; give --images"):
        export.run(config_of(bare, "litert", tmp_path / "out"))
