"""ONNX files as teachers: fed and read as they say, in every runtime, and refused in one line where damaged."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging import Expert
from labeling.teachers.teacher import load_teacher
from labeling.work.answerer import Answerer
from labeling.work.runtimes import TOLERANCE, Way
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures
from tfpipeline.images import parse_joined
from tfpipeline.system import FlagError, UserError

PICTURES = pictures(size=16)
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
EXPECTED = {
    "torch": log_softmax(mean_color_logits((PICTURES / 255 - MEAN) / DEVIATION, 5)),
    "tf": log_softmax(mean_color_logits(PICTURES / 127.5 - 1, 5)),
    "0..1": log_softmax(mean_color_logits(PICTURES / 255, 5)),
    "0..255": log_softmax(mean_color_logits(PICTURES.astype(float), 5)),
}


def save(path, **options):
    from tests.support.tiny_onnx import save_onnx  # needs onnx

    return save_onnx(path, **options)


def answers_of(teacher):
    return teacher.log_probs(tf.cast(PICTURES, tf.float32)).numpy()


@pytest.mark.extras
@pytest.mark.parametrize("spec", ["{}", "onnx:{}"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (("batch", 3, 16, 16), None),
        ((None, 3, 16, 16), None),
        (("batch", "channels", "height", "width"), 16),
        ((2, 3, 16, 16), None),
    ],
)
def test_channels_first_are_fed_as_pytorch_does(tmp_path, spec, shape, size):
    teacher = load_teacher(spec.format(save(tmp_path / "m.onnx", shape=shape)), size=size)
    assert "16x16 pixels in the range torch (the convention of PyTorch), logits over 5 classes" in teacher.note
    np.testing.assert_allclose(answers_of(teacher), EXPECTED["torch"], atol=1e-4)


@pytest.mark.extras
def test_a_file_of_a_fixed_size_takes_no_other(tmp_path):
    with pytest.raises(FlagError, match=r"takes images of 16 pixels, not --teacher-size 24"):
        load_teacher(str(save(tmp_path / "m.onnx")), size=24)


@pytest.mark.extras
def test_channels_last_are_fed_as_the_person_says(tmp_path):
    path = str(save(tmp_path / "m.onnx", shape=("batch", 16, 16, 3)))
    with pytest.raises(FlagError, match="nothing in the file or beside it tells; give --teacher-range"):
        load_teacher(path)
    for name in ("tf", "0..1"):
        np.testing.assert_allclose(answers_of(load_teacher(path, range=name)), EXPECTED[name], atol=1e-4)


@pytest.mark.extras
def test_whole_numbers_are_fed_0_to_255(tmp_path):
    teacher = load_teacher(str(save(tmp_path / "m.onnx", kind=2)))
    assert "in the range 0..255 (its input is uint8)" in teacher.note
    np.testing.assert_allclose(answers_of(teacher), EXPECTED["0..255"], atol=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize(
    ("ends_in", "kind"), [(("Softmax",), "probabilities"), (("LogSoftmax",), "logits"), (("Sigmoid",), "sigmoids")]
)
def test_answers_are_read_by_what_they_are(tmp_path, ends_in, kind):
    teacher = load_teacher(str(save(tmp_path / "m.onnx", ends_in=ends_in)))
    assert (teacher.conventions.output, teacher.network.operation) == (kind, ends_in[0])
    np.testing.assert_allclose(answers_of(teacher), EXPECTED["torch"], atol=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}, "tf"),
        ("preprocessor_config.json", {"do_rescale": True, "do_normalize": False, "image_mean": [0.5] * 3}, "0..1"),
        ("preprocessor_config.json", {"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True}, "tf"),
        ("config.json", {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 16, 16]}}, "tf"),
        ("config.json", {"pretrained_cfg": {"mean": list(MEAN), "std": list(DEVIATION)}}, "torch"),
    ],
)
def test_files_beside_it_say_how_it_is_fed(tmp_path, file, content, name):
    path = save(tmp_path / "m.onnx")
    (tmp_path / file).write_text(json.dumps(content))
    teacher = load_teacher(str(path))
    assert f"in the range {name} (its {file} says so)" in teacher.note
    assert teacher.network.range_is_certain
    np.testing.assert_allclose(answers_of(teacher), EXPECTED[name], atol=1e-4)


@pytest.mark.extras
def test_a_normalization_without_a_name_is_done_and_is_part_of_the_fingerprint(tmp_path):
    path = save(tmp_path / "m.onnx")
    plain = load_teacher(str(path), range="0..1")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP | {"size": {"height": 16}}))
    teacher = load_teacher(str(path))
    assert "in the range 0..1 (then normalized as its preprocessor_config.json says)" in teacher.note
    normalized = (PICTURES / 255 - CLIP["image_mean"]) / CLIP["image_std"]
    np.testing.assert_allclose(answers_of(teacher), log_softmax(mean_color_logits(normalized, 5)), atol=1e-4)
    assert teacher.fingerprint != plain.fingerprint


@pytest.mark.extras
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"do_rescale": False, "do_normalize": False}, "0..255"),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, "tf"),
    ],
)
def test_pixels_that_are_not_rescaled_are_fed_so(tmp_path, content, expected):
    path = save(tmp_path / "m.onnx")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    np.testing.assert_allclose(answers_of(load_teacher(str(path))), EXPECTED[expected], atol=1e-3)


@pytest.mark.extras
def test_blue_comes_first_where_the_processor_says_so(tmp_path):
    path = save(tmp_path / "m.onnx")
    plain = load_teacher(str(path), range="0..1")
    (tmp_path / "preprocessor_config.json").write_text('{"do_rescale": true, "do_flip_channel_order": true}')
    teacher = load_teacher(str(path))
    assert "in the range 0..1 (its preprocessor_config.json says so, with blue first)" in teacher.note
    expected = log_softmax(mean_color_logits(PICTURES[..., ::-1] / 255, 5))
    np.testing.assert_allclose(answers_of(teacher), expected, atol=1e-4)
    assert teacher.fingerprint != plain.fingerprint


@pytest.mark.extras
@pytest.mark.parametrize(
    ("content", "size"),
    [
        ({"size": 24}, 24),
        ({"size": {"shortest_edge": 24}, "crop_pct": 0.875}, 24),
        ({"size": {"shortest_edge": 32}, "crop_size": {"height": 24, "width": 24}}, 24),
        ({"size": {"height": 24, "width": 24}, "crop_size": {"height": 32}, "do_center_crop": False}, 24),
    ],
)
def test_the_size_is_what_the_processor_of_transformers_gives(tmp_path, content, size):
    path = save(tmp_path / "m.onnx", shape=("batch", "channels", "height", "width"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert load_teacher(str(path)).size == size


@pytest.mark.extras
def test_classes_have_the_names_that_the_file_or_its_folder_gives(tmp_path):
    names = ["ant", "bee", "cat", "dog", "eel"]
    path = save(tmp_path / "m.onnx", metadata={"names": str(dict(enumerate(names))), "imgsz": "[16, 16]"})
    assert load_teacher(str(path)).class_names == tuple(names)
    path = save(tmp_path / "n.onnx")
    assert load_teacher(str(path)).class_names is None
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}))
    assert load_teacher(str(path)).class_names is None
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): names[i] for i in range(5)}}))
    assert load_teacher(str(path)).class_names == tuple(names)
    (tmp_path / "classes.txt").write_text("\n".join(reversed(names)))
    assert load_teacher(str(path)).class_names == tuple(reversed(names))
    (tmp_path / "classes.txt").write_text("ant\nbee")
    with pytest.raises(UserError, match="has 5 classes, but it, or a file beside it, names 2"):
        load_teacher(str(path))


@pytest.mark.extras
def test_weights_in_a_file_of_their_own_are_part_of_the_fingerprint(tmp_path):
    import onnx

    model = onnx.load(save(tmp_path / "m.onnx"))
    onnx.save(model, tmp_path / "n.onnx", save_as_external_data=True, location="n.data", size_threshold=0)
    teacher = load_teacher(str(tmp_path / "n.onnx"))
    np.testing.assert_allclose(answers_of(teacher), EXPECTED["torch"], atol=1e-4)
    data = bytearray((tmp_path / "n.data").read_bytes())
    data[1] ^= 1
    (tmp_path / "n.data").write_bytes(data)
    assert load_teacher(str(tmp_path / "n.onnx")).fingerprint != teacher.fingerprint
    (tmp_path / "n.data").unlink()
    with pytest.raises(UserError, match=r"lacks the file .*n\.data, which holds weights"):
        load_teacher(str(tmp_path / "n.onnx"))
    outside = tmp_path / "inner" / "n.onnx"
    outside.parent.mkdir()
    content = (tmp_path / "n.onnx").read_bytes()
    outside.write_bytes(content.replace(b"n.data", b"../n.d"))
    with pytest.raises(UserError, match=r"refers to \.\./n\.d for its weights, outside of its own folder"):
        load_teacher(str(outside))


@pytest.mark.extras
def test_equal_files_have_equal_fingerprints_and_others_do_not(tmp_path):
    first, again = (load_teacher(str(save(tmp_path / f"{i}.onnx"))).fingerprint for i in range(2))
    assert first == again
    assert load_teacher(str(save(tmp_path / "other.onnx", seed=1))).fingerprint != first


@pytest.mark.extras
def test_it_answers_with_others_in_several_views_and_in_every_runtime(tmp_path):
    experts = [
        Expert(load_teacher(str(save(tmp_path / "a.onnx"))), "bilinear"),
        Expert(
            load_teacher(str(save(tmp_path / "b.onnx", shape=("b", 16, 16, 3), seed=1)), range="tf"), "bicubic", 2.0
        ),
    ]
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), dtype=np.uint8)
    views = [parse_joined(name) for name in ("identity+flip", "crop:1:0:9")]
    expected = Answerer(experts, views, 4, images.shape[1:], Way("tensorflow", 5))
    log_p = expected.log_probs(images)
    del experts
    for size in (5, 2):
        np.testing.assert_allclose(expected.by(Way("openvino", size)).log_probs(images), log_p, atol=1e-4)
    # ONNX Runtime knows no bfloat16: in TensorFlow only what lies around its answers is rounded.
    for runtime in ("openvino", "tensorflow"):
        rounded = expected.by(Way(runtime, 5, "bfloat16")).log_probs(images)
        assert np.mean(0.5 * np.abs(np.exp(rounded) - np.exp(log_p)).sum(-1)) < TOLERANCE["bfloat16"]


@pytest.mark.extras
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_file_is_refused(tmp_path, share):
    path = save(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"is no whole ONNX model that ONNX Runtime runs \([^\n]+\); export it again"):
        load_teacher(str(path))


@pytest.mark.extras
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("batch", 48), r"takes \(None, 48\), not a batch of RGB images"),
        (("batch", 1, 16, 16), "not a batch of RGB images"),
        (("batch", 3, 16, 12), "takes images of 16x12 pixels; only square ones"),
    ],
)
def test_what_takes_no_images_is_refused(tmp_path, shape, message):
    import onnx
    from onnx import helper

    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("images", "answers")]
    node = helper.make_node("Relu", ["images"], ["answers"])
    graph = helper.make_graph([node], "none", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=message):
        load_teacher(str(tmp_path / "m.onnx"))


def test_without_a_file_or_the_package_it_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.onnx does not exist; give the path of an \.onnx file"):
        load_teacher("none.onnx")
    (tmp_path / "m.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs onnxruntime and onnx .*: pip install onnxruntime onnx"):
        load_teacher(str(tmp_path / "m.onnx"))
