"""Exported networks answer as Keras does, and one that does not is not published."""

import json
import pathlib
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jobs import command, export, train
from jobs.training import image_flags_of_run
from models import export as model_export
from models import networks
from models.description import Description
from models.encoded_images import decode_images
from tests.support.images_on_disk import encoded
from tfpipeline.images import shapes
from tfpipeline.images.decoding import decode
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


@pytest.fixture(scope="module")
def simple_run(tmp_path_factory):
    """A run whose network is exported in no time."""
    place = tmp_path_factory.mktemp("runs")
    network = networks.build("patchify_net", (64, 64, 3), 12, filters=2, hidden=4)
    return write_run(place / "run", network, place / "cache")


def write_run(directory, model, cache):
    directory.mkdir()
    for variable in model.variables:
        if "moving" in variable.path:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    model.save(directory / "model.keras")
    flags = {"images": "shapes", "limit": IMAGES, "cache": str(cache), "labels": "truth", "run": str(directory)}
    flags = flat(from_flat(train.Config, flags))
    (directory / "config.json").write_text(json.dumps({"flags": flags, "class_names": shapes.NAMES}))
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
    assert description_in((tmp_path / "out" / "assets.extra" / "description.json").read_text())
    assert "shapes" in (tmp_path / "out" / "model_card.md").read_text()


def description_in(text):
    """Whether a text is the JSON that describes the network of the run."""
    said = json.loads(text)
    return (said["class_names"], said["input_size"]) == (list(shapes.NAMES), [64, 64]) and "square" in said["resizing"]


def test_the_same_savedmodel_again_ends_well_and_one_of_other_weights_is_refused(tmp_path, simple_run):
    figures = export.run(config_of(simple_run, "savedmodel", tmp_path / "out"))
    (tmp_path / "out" / "model_card.md").unlink()  # As after a kill between the two.
    assert export.run(config_of(simple_run, "savedmodel", tmp_path / "out")) == figures
    assert (tmp_path / "out" / "model_card.md").is_file()
    keras.utils.set_random_seed(1)
    network = networks.build("patchify_net", (64, 64, 3), 12, filters=2, hidden=4)
    another = write_run(tmp_path / "another", network, simple_run.parent / "cache")
    with pytest.raises(UserError, match="out exists already; remove it or give another directory"):
        export.run(config_of(another, "savedmodel", tmp_path / "out"))


def test_a_savedmodel_names_image_files_of_any_size_as_jobs_predict_does(tmp_path, run_directory):
    export.run(config_of(run_directory, "savedmodel", tmp_path / "out"))
    sizes = [(64, 64), (40, 90), (200, 130)]
    pixels = [np.asarray(Image.fromarray(shapes.draw(3, "valid", i)[0]).resize(size)) for i, size in enumerate(sizes)]
    contents = [encoded(each, form) for each, form in zip(pixels, ("PNG", "JPEG", "BMP"), strict=True)]
    serve = tf.saved_model.load(str(tmp_path / "out")).signatures["encoded_images"]
    answer = serve(image_bytes=tf.constant(contents))
    model = keras.models.load_model(run_directory / "model.keras")
    p = tf.nn.softmax(model(np.stack([decode(content, 64) for content in contents]).astype(np.float32))).numpy()
    np.testing.assert_allclose(answer["probabilities"], -np.sort(-p)[:, :5], atol=0.02)
    assert [name.decode() for name in answer["names"][:, 0].numpy()] == [shapes.NAMES[i] for i in p.argmax(1)]


@pytest.mark.parametrize("size", [(100, 77), (64, 64), (20, 50), (333, 200)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF"])
def test_files_become_the_pixels_that_pillow_makes_of_them(size, form):
    smooth = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(smooth).resize(size).convert("P" if form == "GIF" else "RGB"), form)
    difference = np.abs(decode_images(tf.constant([content]), 64)[0].numpy() - decode(content, 64))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "1"])
def test_transparency_is_over_white_and_gray_is_repeated(mode):
    smooth = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    image = Image.fromarray(smooth, "RGBA").resize((30, 20)).convert(mode)
    content = encoded(image, "PNG")
    difference = np.abs(decode_images(tf.constant([content]), 24)[0].numpy() - decode(content, 24))
    assert difference.max() <= 1


def test_a_file_that_is_no_image_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_images(tf.constant([b"no image"]), 8)


def test_a_litert_file_answers_batches_of_any_size(tmp_path, run_directory):
    figures = export.run(config_of(run_directory, "litert", tmp_path / "deep" / "out.tflite"))
    assert figures["same_top1"] == IMAGES and figures["max_log_prob_difference"] < 1e-4
    assert figures["bytes"] == (tmp_path / "deep" / "out.tflite").stat().st_size
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["model_card.md", "out.tflite"]
    with zipfile.ZipFile(tmp_path / "deep" / "out.tflite") as files:
        assert files.read("labels.txt").decode().splitlines() == list(shapes.NAMES)
        assert description_in(files.read("description.json"))
    answer = model_export.open_litert(tmp_path / "deep" / "out.tflite")
    images = np.random.default_rng(0).uniform(0, 255, (5, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(answer(images)[2:3], answer(images[2:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.extras
def test_an_onnx_file_answers_like_keras(tmp_path, run_directory):
    figures = export.run(config_of(run_directory, "onnx", tmp_path / "out.onnx"))
    assert figures["same_top1"] == IMAGES and figures["max_log_prob_difference"] < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(shapes.NAMES) and json.loads(said["input_size"]) == [64, 64]


def test_onnx_without_its_packages_says_what_to_install(tmp_path, run_directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"--to onnx needs tf2onnx .*: pip install tf2onnx onnx onnxruntime, or choose"):
        export.run(config_of(run_directory, "onnx", tmp_path / "out.onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["savedmodel", "litert"])
def test_a_network_that_answers_otherwise_is_not_published(tmp_path, run_directory, monkeypatch, form):
    write = model_export.WRITERS[form]

    def write_another(model, path, description):
        keras.utils.set_random_seed(1)
        write(networks.build("patchify_net", (64, 64, 3), 12, filters=2, hidden=4), path, description)

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
    model_export.write_litert(exact, path, Description(("a", "b", "c"), (8, 8)))
    assert model_export.check(exact, model_export.open_litert(path), images.astype(np.uint8)).passed


def test_the_images_are_the_runs_own_or_those_that_are_named(tmp_path, simple_run):
    flags = image_flags_of_run(simple_run, cache="elsewhere")
    assert (flags.images, flags.limit, flags.split, flags.cache) == ("shapes", IMAGES, "train", "elsewhere")
    given = ("--images", "shapes", "--split", "valid", "--limit", 9, "--check", 4, "--cache", tmp_path / "cache")
    assert export.run(config_of(simple_run, "litert", tmp_path / "a", *given))["images_checked"] == 3


def test_a_run_without_a_finished_network_or_config(tmp_path, run_directory):
    with pytest.raises(UserError, match=r"model.keras is not there: finish the training"):
        export.run(config_of(tmp_path, "litert", tmp_path / "out"))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.keras").write_bytes(pathlib.Path(run_directory / "model.keras").read_bytes())
    with pytest.raises(UserError, match=r"config.json does not say which images the run had .*; give --images"):
        export.run(config_of(bare, "litert", tmp_path / "out"))
