"""The gate refuses a teacher that is fed or read wrongly, with the likely cause, and passes a right one."""

import csv
import dataclasses
import io
import pathlib
import re
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from labeling.enlarging.expert import Expert
from labeling.teachers.conventions import RANGES, Conventions
from labeling.teachers.teacher import Network, Teacher, load_teacher
from labeling.work import gate
from tests.support.tiny_teachers import pictures
from tfpipeline.images import spread_evenly
from tfpipeline.system.errors import UserError


@pytest.fixture(scope="module")
def images():
    return pictures(96, size=32)


def network_of(call):
    return Network(call, 32, "0..1", "its layers say so", False, "0" * 64, None)


def expert_of(call, outputs=12, background=False, range="0..1"):
    conventions = Conventions(32, range, "logits", outputs, background)
    return Expert(Teacher("t", "t", network_of(call), conventions, None, "note"), "bilinear")


def colors(fed):
    """Logits by the mean color; as networks do, it answers less surely the further pixels are from 0..1."""
    directions = tf.constant(np.random.default_rng(0).normal(size=(3, 12)) * 12, tf.float32)
    beyond = tf.reduce_mean(tf.nn.relu(tf.abs(fed - 0.5) - 0.5), (1, 2, 3))[:, None]
    return (tf.clip_by_value(tf.reduce_mean(fed, (1, 2)), 0.0, 1.0) - 0.45) @ directions * tf.exp(-2.0 * beyond)


def test_a_teacher_that_is_fed_right_passes(images):
    assert "in no other range more" in gate.check(expert_of(colors), images, None, 12, 32)


@pytest.mark.parametrize(
    ("range", "message"),
    [
        ("0..255", "answers every class alike"),
        ("caffe", "answers every class alike"),
        ("tf", r"tells the images apart better when fed 0\.\.1 .* give --teacher-range 0\.\.1, or --no-gate"),
    ],
)
def test_a_wrong_range_is_refused(images, range, message):
    with pytest.raises(UserError, match=message):
        gate.check(expert_of(colors, range=range), images, None, 12, 32)


def test_what_the_network_itself_says_counts(images):
    with pytest.raises(UserError, match=r"is fed the range 0\.\.1 but wants tf: its layers say so"):
        gate.check(_certain(), images, None, 12, 32)


def _certain():
    expert = expert_of(colors)
    network = dataclasses.replace(expert.teacher.network, range="tf", range_is_certain=True)
    return dataclasses.replace(expert, teacher=dataclasses.replace(expert.teacher, network=network))


def test_flat_answers_are_refused(images):
    with pytest.raises(UserError, match="answers every class alike"):
        gate.check(expert_of(lambda fed: colors(fed) * 1e-4), images, None, 12, 32)


def test_the_same_answer_to_every_image_is_refused(images):
    same = tf.one_hot(3, 12) * 20
    with pytest.raises(UserError, match=r"answers the same whatever it is shown \(with probability 1\.00"):
        gate.check(expert_of(lambda fed: colors(fed) * 1e-4 + same), images, None, 12, 32)


@pytest.mark.parametrize(
    ("outputs", "background", "classes"), [(1001, False, 0), (1000, True, 0), (1000, True, 1000), (12, True, 12)]
)
def test_a_class_too_many_or_too_few_is_refused_where_the_counts_prove_it(images, outputs, background, classes):
    with pytest.raises(UserError, match="off by one, by a background class kept or a class dropped"):
        gate.check(expert_of(colors, outputs, background), images, None, classes, 32)


def test_images_that_lack_a_class_are_no_proof_of_a_background(images):
    expert = expert_of(colors)
    assert "it has 12 classes, the images 11" in gate.check(expert, images, None, 11, 32)
    truth = np.argmax(expert.teacher.log_probs(tf.cast(images, tf.float32)), axis=1)
    gate.check(expert, images, truth, 11, 32)
    with pytest.raises(UserError, match=r"100% when counted \+1: its classes are shifted"):
        gate.check(expert, images, truth - 1, 11, 32)


def test_shifted_classes_are_found_where_truth_is_known(images):
    expert = expert_of(colors)
    truth = np.argmax(expert.teacher.log_probs(tf.cast(images, tf.float32)), axis=1)
    gate.check(expert, images, truth, 12, 32)
    with pytest.raises(UserError, match=r"100% when counted \+1: its classes are shifted"):
        gate.check(expert, images, truth - 1, 12, 32)


@pytest.mark.parametrize("count", [1, 9, 23])
def test_few_images_are_judged_among_their_mirror_images_and_drawn_pictures(images, count):
    line = gate.check(expert_of(colors), images[:count], None, 12, 32)
    assert f"(of {count}, their mirror images and drawn pictures), in no other range more" in line
    for wrong in ("0..255", "caffe", "tf"):
        with pytest.raises(UserError, match="--no-gate"):
            gate.check(expert_of(colors, range=wrong), images[:count], None, 12, 32)


@pytest.mark.parametrize("count", [9, 96])
def test_an_image_that_is_answered_by_nan_is_named(images, count):
    some = images[:count].copy()
    some[5] = 128
    nan = expert_of(lambda fed: tf.where(tf.math.reduce_std(fed, (1, 2, 3))[:, None] < 1e-4, np.nan, colors(fed)))
    with pytest.raises(UserError, match="answers NaN to image number 5 "):
        gate.check(nan, some, None, 12, 32, [f"number {index}" for index in range(count)])
    with pytest.raises(UserError, match="answers NaN to image 5 "):
        gate.check(nan, some, None, 12, 32)


def test_nan_in_another_range_is_no_better(images):
    def call(fed):
        return tf.where(tf.reduce_max(fed) > 1.5, np.nan, colors(fed))

    gate.check(expert_of(call), images, None, 12, 32)


def test_a_feature_vector_is_refused(images):
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 3, 64)) / 4, tf.float32)

    def features(fed):
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(fed, kernel, 2, "SAME")), (1, 2))

    with pytest.raises(UserError, match=r"answers 64 numbers that are never negative, .* feature vector does"):
        gate.check(expert_of(features, outputs=64), images, None, 0, 32)


@pytest.mark.slow
def test_the_bundled_teacher():
    expert = Expert(load_teacher("bundled"), "bilinear")
    gate.check(expert, pictures(96), np.arange(96) % 12, 12, 32)
    for name in ("0..255", "caffe", "torch"):
        with pytest.raises(UserError, match="--no-gate"):
            gate.check(Expert(load_teacher("bundled", name), "bilinear"), pictures(96), None, 12, 32)


@pytest.fixture(scope="module")
def thousand(real_data):
    """The thousand real images and their classes, uint8 (1000, 64, 64, 3) and int64 (1000,)."""
    folder = real_data / "imagenet64"
    with open(folder / "thousand_truth.csv", newline="") as file:
        truth = {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
    with tarfile.open(folder / "thousand_64x64.tar") as archive:
        found = {
            pathlib.PurePath(member.name).name: np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())))
            for member in archive
            if member.isfile()
        }
    names = sorted(found)
    return np.stack([found[name] for name in names]), np.array([truth[name] for name in names])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "right"), [("mobilenet_v2_100_224", "0..1"), ("mobilenet_v1_0.75_224.keras", "tf")])
@pytest.mark.long
def test_real_teachers(thousand, real_data, monkeypatch, file, right):
    images, truth = thousand
    teacher = load_teacher(str(real_data / "teachers" / file))
    assert teacher.conventions.range == right
    answers = gate.answers_by_range(Expert(teacher, "bilinear"), images[spread_evenly(len(images), gate.SAMPLE)], 32)
    monkeypatch.setattr(gate, "answers_by_range", lambda *_: dict(answers))  # The same for all of the checks.
    assert np.mean(answers[right].argmax(1) == truth[spread_evenly(len(images), gate.SAMPLE)]) > 0.4
    gate.check(Expert(teacher, "bilinear"), images, truth, 1000, 32)
    for shift in (-1, 1):
        with pytest.raises(UserError, match=re.escape(f"when counted {-shift:+d}: its classes are shifted")):
            gate.check(Expert(teacher, "bilinear"), images, truth + shift, 1000, 32)
    for name in set(RANGES) - {right}:
        wrong = dataclasses.replace(teacher, conventions=dataclasses.replace(teacher.conventions, range=name))
        with pytest.raises(UserError, match=f"--teacher-range {right}|leave --teacher-range out"):
            gate.check(Expert(wrong, "bilinear"), images, None, 1000, 32)
    kept = dataclasses.replace(teacher.conventions, background=not teacher.conventions.background)
    with pytest.raises(UserError, match="off by one"):
        gate.check(Expert(dataclasses.replace(teacher, conventions=kept), "bilinear"), images, None, 0, 32)
