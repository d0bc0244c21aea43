"""Labeling image by image into shards: whatever interrupts it, the store ends the same."""

import types

import numpy as np
import pytest
import tensorflow as tf

from labeling.enlarging.expert import Expert, most_probable
from labeling.labels import quality
from labeling.labels.store import create_labels
from labeling.teachers.teacher import load_teacher
from labeling.work import labeler
from labeling.work.answerer import Answerer
from labeling.work.runtimes import Way
from tests.support.console import RecordingConsole
from tests.support.disk import contents
from tests.support.tiny_teachers import log_softmax, mean_color_logits, save_hub_module
from tfpipeline.batches import Answers
from tfpipeline.images import parse_joined
from tfpipeline.system.errors import Stopped
from tfpipeline.system.signals import StopRequest

N, SHARD, BATCH = 22, 8, 3


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(save_hub_module(tmp_path_factory.mktemp("hub") / "tiny", classes=9)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, 10, 12, 3), dtype=np.uint8)


def spec_of(images, experts, views=("identity",), k=4):
    files = {"images.npy": "1" * 64, "names.txt": "2" * 64}
    methods = {"fingerprint": "d", "description": {"files": files}, "__len__": lambda _: len(images)}
    image_store = types.new_class("Images", exec_body=lambda namespace: namespace.update(methods))()
    return labeler.spec_of(image_store, experts, views, k, SHARD, "float32")


def label_all(images, experts, directory, answer, stop=None, views=("identity",), k=4):
    store = create_labels(directory, spec_of(images, experts, views, k))
    labeler.label(images, store, answer, labeler.Calls(BATCH), stop or StopRequest())
    return store


def answerer(images, experts, views=("identity",), k=4):
    return Answerer(experts, list(map(parse_joined, views)), k, images.shape[1:], Way("tensorflow", BATCH))


def test_labels_are_the_largest_log_probs(tmp_path, teacher, images):
    experts = [Expert(teacher, "bicubic")]
    labels = label_all(images, experts, tmp_path / "labels", answerer(images, experts)).read_all()
    enlarged = np.clip(tf.image.resize(images, (16, 16), "bicubic"), 0, 255)
    expected = log_softmax(mean_color_logits(enlarged / 255, 9))
    order = np.argsort(-expected, kind="stable")
    np.testing.assert_array_equal(labels.top_k[:, 0], order[:, :4])
    np.testing.assert_allclose(labels.log_probs[:, 0], np.take_along_axis(expected, order[:, :4], 1), rtol=2e-3)
    tail = np.log(np.exp(np.take_along_axis(expected, order[:, 4:], 1)).sum(1))
    np.testing.assert_allclose(labels.log_tail[:, 0], tail, rtol=2e-3)


def test_all_classes_leave_no_tail(tmp_path, teacher, images):
    experts = [Expert(teacher, "bilinear")]
    store = label_all(images, experts, tmp_path / "labels", answerer(images, experts, k=9), k=100)
    assert store.spec.top_k == 9
    assert np.isneginf(store.read_all().log_tail).all()


def test_a_tail_far_below_one_keeps_its_digits():
    logits = tf.constant([[0.0, -30.0, -31.0, -32.0]])
    found = most_probable(tf.nn.log_softmax(logits).numpy(), 2)
    np.testing.assert_allclose(found.log_tail, [np.log(np.exp(-31.0) + np.exp(-32.0))], rtol=1e-6)


@pytest.mark.parametrize("calls", range(8))
def test_interrupted_then_again_equals_the_whole_run(tmp_path, teacher, images, calls):
    experts = [Expert(teacher, "bilinear")]
    answer = answerer(images, experts)
    label_all(images, experts, tmp_path / "whole", answer)
    left = iter(range(calls))

    def dies(batch):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return answer(batch)

    with pytest.raises(KeyboardInterrupt):
        label_all(images, experts, tmp_path / "resumed", dies)
    label_all(images, experts, tmp_path / "resumed", answer)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_a_stop_is_heard_when_a_shard_is_saved(tmp_path, teacher, images):
    experts = [Expert(teacher, "bilinear")]
    answer, stop = answerer(images, experts), StopRequest()

    def then_stop(batch):
        stop.signal_name = "SIGTERM"
        return answer(batch)

    with pytest.raises(Stopped, match="stopped by SIGTERM; the finished shards are saved; run the same"):
        label_all(images, experts, tmp_path / "labels", then_stop, stop)
    store = create_labels(tmp_path / "labels", spec_of(images, experts))
    assert store.missing_spans() == [(8, 16), (16, 22)]


def test_batches_end_with_their_shard(tmp_path, teacher, images):
    experts = [Expert(teacher, "bilinear")]
    answer, seen = answerer(images, experts), []

    def notes(batch):
        seen.append(batch)
        return answer(batch)

    label_all(images, experts, tmp_path / "labels", notes)
    assert [len(batch) for batch in seen] == [3, 3, 2, 3, 3, 2, 3, 3]
    np.testing.assert_array_equal(np.concatenate(seen), images)


def test_a_full_disk_is_told_and_nothing_torn_stays(tmp_path, teacher, images, monkeypatch):
    experts = [Expert(teacher, "bilinear")]

    def full(*_):
        raise OSError(28, "No space left on device")

    store = create_labels(tmp_path / "labels", spec_of(images, experts))
    monkeypatch.setattr("tfpipeline.system.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        labeler.label(images, store, answerer(images, experts), labeler.Calls(BATCH), StopRequest())
    assert [path.name for path in store.directory.iterdir()] == ["spec.json"]


def test_figures_against_loops():
    top_k = np.array([[2, 0], [1, 2], [1, 0]], np.uint16)
    log_probs = np.log([[0.5, 0.25], [0.75, 0.25], [0.5, 0.5]]).astype(np.float16)
    with np.errstate(divide="ignore"):
        log_tail = np.log([0.25, 0.0, 0.0]).astype(np.float16)
    figures = quality.figures(Answers(top_k, log_probs, log_tail), np.array([0, 1, -1], np.int32))
    assert (figures["top1"], figures["top5"]) == (0.5, 1.0)
    assert figures["classes_answered"] == 2
    entropies = [0.5 * np.log(2) + 2 * 0.25 * np.log(4), 0.75 * np.log(4 / 3) + 0.25 * np.log(4), np.log(2)]
    for name, expected in {
        "mean_top_probability": np.mean([0.5, 0.75, 0.5]),
        "mean_tail_mass": 0.25 / 3,
        "mean_entropy": np.mean(entropies),
    }.items():
        assert figures[name] == pytest.approx(expected, rel=1e-3), name


def images_with_truth(truth, classes):
    return types.SimpleNamespace(truth=np.array(truth, np.int32), classes=[(name, name) for name in classes])


def spec_with(classes, class_names=()):
    return types.SimpleNamespace(classes=classes, class_names=class_names, subset=(), subset_of=0)


def test_truth_is_counted_as_the_teacher_counts():
    images = images_with_truth([0, 1, 2, -1], ["cat", "dog", "eel"])
    console = RecordingConsole()
    truth = quality.known_truth(spec_with(3, ("eel", "cat", "ape")), images, console)
    assert truth.tolist() == [1, -1, 0, -1]
    assert quality.known_truth(spec_with(3), images, console).tolist() == [0, 1, 2, -1]
    assert quality.known_truth(spec_with(3), images_with_truth([-1], []), console) is None
    assert not console.lines
    assert quality.known_truth(spec_with(1000), images, console) is None
    assert "counts 3 classes and the teacher 1,000" in console.lines[0]


def test_the_mirror_image_is_answered_too(tmp_path, teacher, images):
    """A teacher of mean colors answers a mirror image alike."""
    experts, names = [Expert(teacher, "bilinear")], ("identity", "identity+flip")
    both = label_all(images, experts, tmp_path / "both", answerer(images, experts, names), views=names).read_all()
    np.testing.assert_allclose(both.log_probs[:, 0], both.log_probs[:, 1], atol=2e-3)
