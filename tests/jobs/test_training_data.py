"""What a training reads is joined by index, and known by its hashes."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest

from jobs.training.data import LabeledImages, TrueClasses, join_held_out, join_labels
from jobs.training.objective import build_targets
from jobs.training.task import check_snapshot, machine
from models.flags import ObjectiveFlags
from tests.support.console import RecordingConsole
from tests.support.label_stores import COUNT, NAMES, TOP, K, labels
from tfpipeline.system.console import SILENT
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.training.checkpoint import Snapshot


class Store(types.SimpleNamespace):
    def __len__(self):
        return COUNT


def store(names=NAMES, truth=(0, 1, 2, 3, 0, 1), size=8):
    return Store(
        images=np.zeros((COUNT, size, size, 3), np.uint8),
        truth=np.array(truth, np.int32),
        classes=[(name, name) for name in names],
        has_truth=min(truth) >= 0,
        rows=None,
        fingerprint="d" * 64,
        description={"files": {"images.npy": "1" * 64, "names.txt": "2" * 64}},
    )


def truth_alone(truth):
    """Images that are learned by their truth."""
    truth = np.array(truth, np.int32)
    images = np.zeros((len(truth), 8, 8, 3), np.uint8)
    return LabeledImages(images, K, truth, None, {}, TrueClasses(NAMES, K))


def test_answers_are_joined_by_index_in_the_types_of_the_loss(tmp_path):
    data = join_labels(store(), labels(tmp_path), SILENT)
    assert data.teacher_top.tolist() == [0, 1, 2, 3, 0, 1]
    described = {name: (array.shape, array.dtype.name) for name, array in data.answers.arrays().items()}
    assert described == {
        "top_k": ((COUNT, TOP), "int32"),
        "log_probs": ((COUNT, TOP), "float32"),
        "log_tail": ((COUNT,), "float32"),
    }
    assert data.classes == K and data.truth.tolist() == [0, 1, 2, 3, 0, 1]


def test_replayed_views_have_a_row_each_and_whole_images_the_answer_to_identity(tmp_path):
    stored = labels(tmp_path, views=("flip", "identity", "crop:0:0:5"))
    data = join_labels(store(), stored, SILENT, replay=True)
    assert tuple(map(str, data.views)) == ("flip", "identity", "crop:0:0:5")
    assert data.teacher_top.tolist() == [1, 2, 3, 0, 1, 2], "identity is the second view"
    targets = build_targets(data, ObjectiveFlags(truth_weight=0.5), SILENT)
    assert targets["top_k"][:, 0].tolist() == [(i + v) % K for i in range(COUNT) for v in range(3)]
    assert targets["log_tail"].shape == (COUNT * 3,)
    assert targets["truth"].tolist() == np.repeat([0, 1, 2, 3, 0, 1], 3).tolist()


@pytest.mark.parametrize(
    ("views", "learned", "said"),
    [
        (("identity",), 0, None),
        (("identity+flip",), 0, None),
        (("flip", "identity"), 1, "holds the answers to 2 views (flip, identity); those to identity are learned: --au"),
        (("crop:0:0:5", "identity+flip"), 1, "those to identity+flip are learned"),
        (("crop:0:0:5",), 0, "the answers to the view crop:0:0:5, which are learned as those to the whole image"),
    ],
)
def test_without_replay_whole_images_are_learned_and_other_views_are_told(tmp_path, views, learned, said):
    heard = RecordingConsole()
    data = join_labels(store(), labels(tmp_path, views=views), heard)
    assert data.teacher_top.tolist() == [(i + learned) % K for i in range(COUNT)]
    assert data.views == () and build_targets(data, ObjectiveFlags(), SILENT)["top_k"].shape == (COUNT, TOP)
    assert data.identity["views"] == (views[learned],)
    assert len(heard.lines) == (said is not None) and (said or "") in "".join(heard.lines)


def test_other_views_and_replay_have_another_identity(tmp_path):
    stored = labels(tmp_path / "two", views=("identity", "flip"))
    plain = join_labels(store(), stored, SILENT).identity
    replayed = join_labels(store(), stored, SILENT, replay=True).identity
    assert {name for name in plain if plain[name] != replayed[name]} == {"views", "labels"}
    renamed = labels(tmp_path / "renamed", views=("flip", "identity"))
    renamed = join_labels(store(), renamed, SILENT, replay=True).identity
    assert {name for name in replayed if replayed[name] != renamed[name]} == {"views"}


def test_validation_measures_against_the_answers_to_whole_images(tmp_path):
    stored = labels(tmp_path, views=("flip", "identity"))
    training = join_labels(store(), stored, SILENT, replay=True)
    held_out = join_held_out(store(), stored, training, SILENT)
    assert held_out.teacher_top.tolist() == [1, 2, 3, 0, 1, 2]


def test_weights_go_by_the_answer_to_each_view_or_by_the_truth(tmp_path):
    heard = RecordingConsole()
    data = join_labels(store(), labels(tmp_path, views=("identity", "flip")), SILENT, replay=True)
    assert "weight" not in build_targets(data, ObjectiveFlags(), heard) and not heard.lines
    weights = build_targets(data, ObjectiveFlags(confidence_threshold=0.6), heard)["weight"]
    assert weights.tolist() == [0, 2] * COUNT, "the teacher is sure of the mirror images alone"
    assert heard.lines == ["6 of 12 labels count in the loss, with weights from 2 to 2, 1 in the mean"]
    truth = truth_alone([0, 0, 1])
    weights = build_targets(truth, ObjectiveFlags(class_balance=1.0), heard)["weight"]
    np.testing.assert_allclose(weights, [0.75, 0.75, 1.5])
    with pytest.raises(FlagError, match=r"--confidence-threshold 0.7: no sample has .* 0.625; give a lower one"):
        build_targets(data, ObjectiveFlags(confidence_threshold=0.7), heard)


def test_it_is_told_what_a_temperature_gives_to_classes_that_the_labels_do_not_tell_apart(tmp_path):
    heard = RecordingConsole()
    data = join_labels(store(), labels(tmp_path), SILENT)
    for classes, temperature in ((K, 1.0), (K, 0.5), (TOP, 2.0)):
        build_targets(dataclasses.replace(data, classes=classes), ObjectiveFlags(temperature=temperature), heard)
    build_targets(truth_alone([0] * COUNT), ObjectiveFlags(temperature=2.0), heard)
    assert not heard.lines, "up to temperature 1 they get no more, and where all classes are stored there are none"
    build_targets(data, ObjectiveFlags(temperature=2.0), heard)
    roots = np.sqrt([0.5, 0.25, 0.125, 0.125])  # p^(1/T) of the whole answer: half of it, a quarter, and the tail
    share = 100 * roots[2:].sum() / roots.sum()
    told = f"--temperature 2 gives {share:.1f} % of the teacher's answers, instead of 25.0 %, to the classes"
    assert heard.lines[0].startswith(told) and "(2 of 4)" in heard.lines[0]


def test_the_truth_is_counted_as_the_teacher_counts(tmp_path):
    data = join_labels(store(names=NAMES[::-1]), labels(tmp_path), SILENT)
    assert data.truth.tolist() == [3, 2, 1, 0, 3, 2]


def test_other_labels_and_another_class_order_have_another_identity(tmp_path):
    first = join_labels(store(), labels(tmp_path / "first"), SILENT).identity
    again = join_labels(store(), labels(tmp_path / "again"), SILENT).identity
    other_order = join_labels(store(), labels(tmp_path / "o", class_names=NAMES[::-1]), SILENT).identity
    truth = join_labels(store(), "truth", SILENT).identity
    assert first == again
    assert {name for name in first if first[name] != other_order[name]} == {"class_order"}
    assert first["labels"] != truth["labels"]
    assert join_labels(store(names=NAMES[::-1]), "truth", SILENT).identity["class_order"] != (truth["class_order"])


def test_the_order_of_images_is_part_of_the_labels_identity():
    one = join_labels(store(truth=(0, 1, 2, 3, 0, 1)), "truth", SILENT).identity
    other = join_labels(store(truth=(1, 0, 2, 3, 0, 1)), "truth", SILENT).identity
    assert {name for name in one if one[name] != other[name]} == {"labels"}


def test_unknown_truth_is_no_label():
    with pytest.raises(UserError, match="--labels truth: the truth of 1 of 6 images is not known"):
        join_labels(store(truth=(0, 1, 2, 3, 0, -1)), "truth", SILENT)


def test_truth_gets_no_weight_where_it_is_unknown(tmp_path):
    data = join_labels(store(truth=(-1,) * COUNT), labels(tmp_path), SILENT)
    assert set(build_targets(data, ObjectiveFlags(), SILENT)) == {"top_k", "log_probs", "log_tail"}
    with pytest.raises(FlagError, match=r"--truth-weight 0.5: no truth is known"):
        build_targets(data, ObjectiveFlags(truth_weight=0.5), SILENT)


def test_validation_of_another_size_or_teacher_is_refused(tmp_path):
    training = join_labels(store(), labels(tmp_path / "train"), SILENT)
    with pytest.raises(UserError, match="the validation images are 9x9, those to train on 8x8; give --size"):
        join_held_out(store(size=9), None, training, SILENT)
    other = labels(tmp_path / "other", classes=K + 1, class_names=())
    with pytest.raises(UserError, match="count 5 classes, those to learn from 4; label both with one teacher"):
        join_held_out(store(), other, training, SILENT)


def test_validation_without_labels_takes_the_truth_in_the_students_classes(tmp_path):
    training = join_labels(store(), labels(tmp_path), SILENT)
    held_out = join_held_out(store(names=NAMES[::-1]), None, training, SILENT)
    assert held_out.truth.tolist() == [3, 2, 1, 0, 3, 2] and held_out.teacher_top is None


def test_validation_truth_is_joined_by_the_names_of_the_classes(tmp_path):
    training = join_labels(store(), "truth", SILENT)
    held_out = store(names=("a", "c"), truth=(0, 1, 1, 0, -1, 0))
    assert join_held_out(held_out, None, training, SILENT).truth.tolist() == [0, 2, 2, 0, -1, 0]
    unnamed = store(names=(), truth=(0, 1, 1, 0, -1, 0))
    assert join_held_out(unnamed, None, training, SILENT).truth.tolist() == [0, 1, 1, 0, -1, 0]


@pytest.mark.parametrize("learned", ["labels", "truth"])
def test_validation_labels_in_another_order_of_the_classes_are_refused(tmp_path, learned):
    own = labels(tmp_path / "own")
    training = join_labels(store(), own if learned == "labels" else "truth", SILENT)
    assert join_held_out(store(), own, training, SILENT).teacher_top.tolist() == [0, 1, 2, 3, 0, 1]
    other = labels(tmp_path / "other", class_names=NAMES[::-1])
    with pytest.raises(UserError, match=r"count other classes, or in another order, than --labels; label both"):
        join_held_out(store(), other, training, SILENT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("OMP_NUM_THREADS", "1"), ("TF_ENABLE_ONEDNN_OPTS", "0"), ("TF_NUM_INTRAOP_THREADS", "1")),
        *(("ONEDNN_MAX_CPU_ISA", "AVX2"), ("TF_SET_ONEDNN_FPMATH_MODE", "bf16"), ("TF_DETERMINISTIC_OPS", "0")),
    ],
)
def test_what_decides_the_last_bits_is_in_the_machine_s_record_and_said_when_it_changes(monkeypatch, name, value):
    monkeypatch.delenv(name, raising=False)
    before = json.loads(json.dumps(machine()))
    assert before["vectors"] and before["kind"]
    monkeypatch.setenv(name, value)
    task, console = types.SimpleNamespace(experiment={}, machine=machine()), RecordingConsole()
    for saved in (before, machine()):
        snapshot = Snapshot(1, {}, {}, {"experiment": {}, "machine": saved}, pathlib.Path("x"))
        check_snapshot(snapshot, task, "cosine", console)
    (line,) = console.lines
    assert f"'{name}': '{value}'" in line and "the last bits are not promised" in line
