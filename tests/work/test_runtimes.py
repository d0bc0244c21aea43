"""The runtime of labeling: chosen by measurement, written down, never mixed, and answering as TensorFlow does."""

import json
import os
import sys

import keras
import numpy as np
import pytest

from jobs import command, label_imagenet64
from labeling.enlarging import interpolation
from labeling.enlarging.expert import Expert
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels, open_labels
from labeling.teachers.teacher import load_teacher
from labeling.work import runtime_choice, runtimes
from labeling.work.answerer import Answerer
from labeling.work.runtimes import Way
from tests.support.disk import contents
from tests.support.images import store_of
from tests.support.processes import Child
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.images import IDENTITY, parse_joined
from tfpipeline.system.errors import UserError

IMAGES = 300  # more than are too few to measure on


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny teacher of 64-pixel images and the cache of the images."""
    directory = tmp_path_factory.mktemp("place")
    save_hub_module(directory / "teacher", classes=12, size=64)
    return directory


def config_of(place, out, *more):
    argv = ["--images", "shapes", "--limit", str(IMAGES), "--cache", str(place / "cache"), "--shard-size", "100"]
    argv += ["--teacher", str(place / "teacher"), "--out", str(out), "--no-gate", *map(str, more)]
    return command.parse(label_imagenet64.Config, argv, "label", "")


class Stranger(runtimes.TensorFlowProgram):
    """Stands in for OpenVINO."""

    parallel = 2


class Liar(Stranger):
    """Answers with the classes in another order."""

    def __call__(self, images):
        return super().__call__(images)[..., ::-1]


def refuses(*_):
    raise UserError("no such operation")


@pytest.fixture
def stranger(monkeypatch):
    """A second runtime, without its package."""
    monkeypatch.setitem(sys.modules, "openvino", type("OpenVINO", (), {"__version__": "0"}))
    monkeypatch.setitem(runtimes.PROGRAMS, "openvino", Stranger)


@pytest.fixture
def measured(monkeypatch):
    """Measurements as this dict says, way -> images/s, 100 for others; with the list of those that were made."""
    rates, asked = {}, []

    def images_per_second(answer, _images):
        way = answer.way.runtime, answer.way.batch_size
        asked.append(way)
        return rates.get(way, 100.0)

    monkeypatch.setattr(runtime_choice, "images_per_second", images_per_second)
    monkeypatch.setattr(runtime_choice, "SHORT_SECONDS", 1.0)
    return rates, asked


@pytest.mark.slow
@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({("openvino", 4): 150.0, ("openvino", 2): 140.0}, ("openvino", 4)),
        ({("openvino", 4): 109.0}, ("tensorflow", 64)),
        ({("tensorflow", 16): 111.0}, ("tensorflow", 16)),
    ],
)
def test_the_fastest_way_is_taken_recorded_and_kept(place, tmp_path, measured, rates, chosen):
    measured[0].update(rates)
    cache = ["--cache", tmp_path / "cache"]
    figures = label_imagenet64.run(config_of(place, tmp_path / "labels", *cache))
    spec = open_labels(tmp_path / "labels").spec
    assert (figures["labeled"], spec.runtime, spec.batch_size) == (IMAGES, *chosen)
    (record,) = (tmp_path / "cache" / "runtimes").glob("*.json")
    assert len(json.loads(record.read_text())["images_per_second"]) == 5
    whole, asked = contents(tmp_path / "labels"), list(measured[1])

    # Killed before its first label, or in between: no other measurement makes other labels.
    measured[0].clear()
    measured[0]["tensorflow", 64] = 1000.0
    label_imagenet64.run(config_of(place, tmp_path / "again", *cache))
    min((tmp_path / "labels").glob("labels-*.npz")).unlink()
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--cache", place / "cache"))
    assert contents(tmp_path / "again") == contents(tmp_path / "labels") == whole
    assert measured[1] == asked


@pytest.mark.usefixtures("stranger")
def test_short_work_is_not_measured_further(place, tmp_path, measured):
    measured[0]["tensorflow", 16] = IMAGES / 0.9
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--cache", tmp_path / "cache"))
    assert measured[1] == [("tensorflow", 16)]
    assert open_labels(tmp_path / "labels").spec.batch_size == 64


@pytest.mark.usefixtures("stranger", "measured")
def test_batches_that_do_not_fit_into_memory_are_not_tried(place, tmp_path, measured, monkeypatch):
    largest = 64 * 64 * 3 * 4  # bytes of an image in float32
    held = 3 * largest * 4 * os.cpu_count()
    monkeypatch.setattr(runtime_choice, "_memory", lambda: 4 * held + 1)
    monkeypatch.setattr(Answerer, "largest_tensor_bytes", lambda _: largest)
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--cache", tmp_path / "cache"))
    assert ("openvino", 4) in measured[1]
    assert ("openvino", 16) not in measured[1]


def test_the_largest_tensor_is_counted_per_image(place):
    teacher = load_teacher(str(place / "teacher"))
    answer = Answerer([Expert(teacher, "bilinear")], [(IDENTITY,)], 5, (32, 32, 3), Way("tensorflow", 7))
    assert answer.largest_tensor_bytes() == 64 * 64 * 3 * 4


@pytest.mark.slow
@pytest.mark.usefixtures("stranger", "measured")
@pytest.mark.parametrize(
    ("program", "message"), [(Liar, "answers otherwise than TensorFlow"), (refuses, "no such operation")]
)
def test_a_runtime_that_fails_or_answers_otherwise_is_not_used(
    place, tmp_path, measured, monkeypatch, capsys, program, message
):
    monkeypatch.setitem(runtimes.PROGRAMS, "openvino", program)
    measured[0].update(dict.fromkeys([("openvino", 16), ("openvino", 4)], 900.0))
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--cache", tmp_path / "cache"))
    assert f"openvino is left out: {message}" in capsys.readouterr().err.replace("openvino in float32 ", "")
    assert open_labels(tmp_path / "labels").spec.runtime == "tensorflow"
    with pytest.raises(UserError, match=message):
        label_imagenet64.run(config_of(place, tmp_path / "other", "--runtime", "openvino", "--batch-size", 4))
    assert not (tmp_path / "other").exists()


def test_without_the_package_tensorflow_answers_and_a_note_says_so(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    label_imagenet64.run(config_of(place, tmp_path / "labels"))
    assert "is not installed (pip install openvino): TensorFlow answers" in capsys.readouterr().err
    assert open_labels(tmp_path / "labels").spec.runtime == "tensorflow"


def test_a_missing_package_is_one_line(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"--runtime openvino needs the package openvino .*: pip install openvino, or"):
        label_imagenet64.run(config_of(place, tmp_path / "labels", "--runtime", "openvino"))
    assert not (tmp_path / "labels").exists()


def test_labels_of_a_missing_runtime_are_not_gone_on_with(place, tmp_path, stranger, monkeypatch):
    config = config_of(place, tmp_path / "labels", "--runtime", "openvino", "--batch-size", "64")
    label_imagenet64.run(config)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="were made by OpenVINO, which is not installed: pip install openvino, or"):
        label_imagenet64.run(config_of(place, tmp_path / "labels"))


@pytest.mark.usefixtures("stranger")
def test_runtimes_and_precisions_do_not_mix(place, tmp_path):
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--runtime", "tensorflow"))
    whole = contents(tmp_path / "labels")
    for flag, asked, message in (
        ("--runtime", "openvino", "runtime: tensorflow there, openvino asked for"),
        ("--precision", "bfloat16", "precision: float32 there, bfloat16 asked for"),
    ):
        with pytest.raises(UserError, match=message):
            label_imagenet64.run(config_of(place, tmp_path / "labels", flag, asked))
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--batch-size", "7"))
    assert contents(tmp_path / "labels") == whole


def test_stores_from_before_there_were_runtimes_open_with_their_shards(place, tmp_path):
    label_imagenet64.run(config_of(place, tmp_path / "labels", "--runtime", "tensorflow"))
    labeled = open_labels(tmp_path / "labels")
    text = (tmp_path / "labels" / "spec.json").read_text()
    fields = json.loads(text)
    assert fields.pop("batch_size") == 64
    assert "runtime" not in fields
    spec = LabelSpec.from_json(json.dumps(fields))
    assert (spec.runtime, spec.batch_size) == ("tensorflow", None)
    assert json.loads(spec.to_json()) == fields
    before = create_labels(tmp_path / "before", spec)
    before.write_shard(before.spans[0], labeled.read(min((tmp_path / "labels").glob("labels-*.npz"))))
    label_imagenet64.run(config_of(place, tmp_path / "before"))
    np.testing.assert_array_equal(open_labels(tmp_path / "before").read_all().top_k, labeled.read_all().top_k)


def convolutional_teacher(path):
    """A small network of Keras with the operations of a MobileNet, its batch normalization trained."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(6.0),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.Conv2D(16, 1, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(11, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=2)),
        ]
    )
    for variable in model.variables:
        if "moving" in variable.path:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    model.save(path)
    return path


@pytest.fixture(scope="module", params=["hub", "keras"])
def teacher(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "hub":
        return load_teacher(str(save_hub_module(directory / "teacher", classes=9, size=32)))
    return load_teacher(str(convolutional_teacher(directory / "teacher.keras")))


@pytest.mark.extras
@pytest.mark.parametrize("method", interpolation.METHODS)
def test_openvino_answers_as_tensorflow_does(teacher, method):
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), dtype=np.uint8)
    views = [parse_joined(name) for name in ("identity+flip", "crop:1:0:9")]
    expected = Answerer([Expert(teacher, method)], views, 4, images.shape[1:], Way("tensorflow", 5))
    log_p = expected.log_probs(images)
    for size in (5, 2):
        found = expected.by(Way("openvino", size))
        np.testing.assert_allclose(found.log_probs(images), log_p, atol=1e-4)
    rounded = expected.by(Way("openvino", 5, "bfloat16")).log_probs(images)
    assert np.mean(0.5 * np.abs(np.exp(rounded) - np.exp(log_p)).sum(-1)) < runtimes.TOLERANCE["bfloat16"]


@pytest.mark.extras
def test_a_job_measures_real_runtimes(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runtime_choice, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(runtime_choice, "_SECONDS_PER_TURN", 0.01)
    figures = label_imagenet64.run(config_of(place, tmp_path / "labels", "--cache", tmp_path / "cache"))
    assert figures["labeled"] == IMAGES
    assert "openvino, 2 at a time: " in capsys.readouterr().err


def label_quietly(arguments):
    label_imagenet64.run(command.parse(label_imagenet64.Config, [*arguments, "--quiet"], "label", ""))


@pytest.mark.extras
def test_killed_while_openvino_answers_then_run_again_equals_the_whole_run(place, tmp_path):
    arguments = ["--images", "shapes", "--limit", str(IMAGES), "--cache", str(place / "cache"), "--shard-size", "3"]
    arguments += ["--teacher", str(place / "teacher"), "--no-gate", "--runtime", "openvino", "--batch-size", "2"]
    label_quietly([*arguments, "--out", str(tmp_path / "whole")])
    out = tmp_path / "labels"
    for shards in (0, 30):
        child = Child(tmp_path / "said", label_quietly, [*arguments, "--out", str(out)])
        while not child.ended(0) and sum(1 for _ in out.glob("labels-*.npz")) < shards:
            pass
        child.kill()
    assert 0 < len(list(out.glob("labels-*.npz"))) < IMAGES // 3
    label_quietly([*arguments, "--out", str(out)])
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.extras
def test_the_real_teachers_answer_alike(real_data):
    images = store_of(f"archive:{real_data}/imagenet64/thousand_64x64.tar", limit=48).images
    for name in ("mobilenet_v2_100_224", "mobilenet_v1_0.75_224.keras"):
        expert = Expert(load_teacher(str(real_data / "teachers" / name)), "bilinear")
        expected = Answerer([expert], [(IDENTITY,)], 32, images.shape[1:], Way("tensorflow", 48))
        found, log_p = expected.by(Way("openvino", 16)).log_probs(images), expected.log_probs(images)
        np.testing.assert_allclose(np.exp(found), np.exp(log_p), atol=1e-4)
        np.testing.assert_array_equal(found.argmax(-1), log_p.argmax(-1))


@pytest.mark.extras
def test_the_stem_and_the_rest_make_the_network(tmp_path):
    """In float32 both halves give what the whole gives; a skip connection and two views cross from one to the other."""
    import openvino

    from labeling.work import openvino_stem

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same")(y)
    y = keras.layers.Conv2D(4, 1)(y)
    y = keras.layers.Flatten()(keras.layers.Conv2D(6, 3, strides=2)(keras.layers.Add()([x, y])))
    keras.Model(inputs, keras.layers.Dense(5)(y)).save(tmp_path / "teacher.keras")
    expert = Expert(load_teacher(str(tmp_path / "teacher.keras"), range="0..1"), "bicubic")
    answer = Answerer([expert], [parse_joined("identity+flip")], 5, (8, 8, 3), Way("tensorflow", 3))
    model = runtimes._read(answer._frozen).clone()
    model.reshape({0: [3, 8, 8, 3]})
    stem, rest = openvino_stem.split(model)
    layers = [sum("Convolution" in op.get_type_name() for op in part.get_ops()) for part in (stem, rest)]
    assert layers == [6, 4]
    assert len(rest.inputs) == 4
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    options = {openvino.properties.hint.inference_precision: openvino.Type.f32}
    crossing = openvino.Core().compile_model(stem, "CPU", options)(images)
    found = openvino.Core().compile_model(rest, "CPU", options)(list(crossing.values()))[0]
    np.testing.assert_allclose(found, answer.log_probs(images), atol=1e-4)
