"""What a training reads is joined by index, and known by its hashes."""

import dataclasses
import types

import numpy as np
import pytest

from jobs import training_data
from labeling import label_store
from tfpipeline.errors import FlagError, UserError
from tfpipeline.progress import SILENT

COUNT, K, TOP = 6, 4, 2
NAMES = ("a", "b", "c", "d")
SPEC = label_store.LabelSpec(
    dataset="d" * 64,
    images_sha256="1" * 64,
    names_sha256="2" * 64,
    count=COUNT,
    shard_size=4,
    teachers=({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},),
    classes=K,
    class_names=NAMES,
    top_k=TOP,
)


class Store(types.SimpleNamespace):
    def __len__(self):
        return COUNT


def store(names=NAMES, truth=(0, 1, 2, 3, 0, 1), size=8):
    return Store(
        images=np.zeros((COUNT, size, size, 3), np.uint8),
        truth=np.array(truth, np.int32),
        classes=[(name, name) for name in names],
        has_truth=min(truth) >= 0,
        fingerprint="d" * 64,
        description={"files": {"images.npy": "1" * 64, "names.txt": "2" * 64}},
    )


def labels(directory, **changes):
    """A whole label store whose first answer to image i is class i % K."""
    spec = dataclasses.replace(SPEC, **changes)
    stored = label_store.create_labels(directory, spec)
    for first, last in stored.ranges:
        top = np.stack([np.arange(first, last) % K, np.arange(first + 1, last + 1) % K], -1)[:, None]
        n = last - first
        stored.write_shard(
            first,
            last,
            label_store.Labels(
                top.astype(np.uint16),
                np.log(np.tile([0.5, 0.25], (n, 1, 1))).astype(np.float16),
                np.log(np.full((n, 1), 0.25)).astype(np.float16),
            ),
        )
    return str(directory)


def test_answers_are_joined_by_index_in_the_types_of_the_loss(tmp_path):
    data = training_data.training_data(store(), labels(tmp_path), SILENT)
    assert data.teacher_top.tolist() == [0, 1, 2, 3, 0, 1]
    described = {name: (array.shape, array.dtype.name) for name, array in data.answers.items()}
    assert described == {
        "top_k": ((COUNT, TOP), "int32"),
        "log_probs": ((COUNT, TOP), "float32"),
        "log_tail": ((COUNT,), "float32"),
    }
    assert data.classes == K and data.truth.tolist() == [0, 1, 2, 3, 0, 1]


def test_the_truth_is_counted_as_the_teacher_counts(tmp_path):
    data = training_data.training_data(store(names=NAMES[::-1]), labels(tmp_path), SILENT)
    assert data.truth.tolist() == [3, 2, 1, 0, 3, 2]


def test_other_labels_and_another_class_order_have_another_identity(tmp_path):
    first = training_data.training_data(store(), labels(tmp_path / "first"), SILENT).identity
    again = training_data.training_data(store(), labels(tmp_path / "again"), SILENT).identity
    other_order = training_data.training_data(store(), labels(tmp_path / "o", class_names=NAMES[::-1]), SILENT).identity
    truth = training_data.training_data(store(), "truth", SILENT).identity
    assert first == again
    assert {name for name in first if first[name] != other_order[name]} == {"class_order"}
    assert first["labels"] != truth["labels"]
    assert (
        training_data.training_data(store(names=NAMES[::-1]), "truth", SILENT).identity["class_order"]
        != (truth["class_order"])
    )


def test_the_order_of_images_is_part_of_the_labels_identity():
    one = training_data.training_data(store(truth=(0, 1, 2, 3, 0, 1)), "truth", SILENT).identity
    other = training_data.training_data(store(truth=(1, 0, 2, 3, 0, 1)), "truth", SILENT).identity
    assert {name for name in one if one[name] != other[name]} == {"labels"}


def test_unknown_truth_is_no_label():
    with pytest.raises(UserError, match="--labels truth: the truth of 1 of 6 images is not known"):
        training_data.training_data(store(truth=(0, 1, 2, 3, 0, -1)), "truth", SILENT)


def test_truth_gets_no_weight_where_it_is_unknown(tmp_path):
    data = training_data.training_data(store(truth=(-1,) * COUNT), labels(tmp_path), SILENT)
    assert set(training_data.targets_of(data, 0.0)) == {"top_k", "log_probs", "log_tail"}
    with pytest.raises(FlagError, match=r"--truth-weight 0.5: no truth is known"):
        training_data.targets_of(data, 0.5)


def test_validation_of_another_size_or_teacher_is_refused(tmp_path):
    training = training_data.training_data(store(), labels(tmp_path / "train"), SILENT)
    with pytest.raises(UserError, match="the validation images are 9x9, those to train on 8x8; give --size"):
        training_data.validation_data(store(size=9), None, training, str(tmp_path / "train"), SILENT)
    other = labels(tmp_path / "other", classes=K + 1, class_names=())
    with pytest.raises(UserError, match="count 5 classes, those to learn from 4; label both with one teacher"):
        training_data.validation_data(store(), other, training, str(tmp_path / "train"), SILENT)


def test_validation_without_labels_takes_the_truth_in_the_students_classes(tmp_path):
    training = training_data.training_data(store(), labels(tmp_path), SILENT)
    held_out = training_data.validation_data(store(names=NAMES[::-1]), None, training, str(tmp_path), SILENT)
    assert held_out.truth.tolist() == [3, 2, 1, 0, 3, 2] and held_out.teacher_top is None
