"""Own classes made of a teacher's: the file, the answers, the labels, and the class names of folders."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from jobs import command, label_imagenet64
from labeling.labels.spec import LabelSpec
from labeling.labels.store import open_labels
from labeling.teachers import class_map, class_subset
from tests.support.images_on_disk import encoded, write_folder
from tests.support.repository import ROOT
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures, save_hub_module
from tfpipeline.images import imagenet_names
from tfpipeline.system.errors import FlagError, UserError

WNIDS = list(imagenet_names())


def mapped(teacher, tmp_path, text):
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    return class_map.map_classes(teacher, str(tmp_path / "map.csv"))


@pytest.mark.parametrize(
    ("text", "names", "groups"),
    [
        ("own_class,teacher_class\nfish,tench\nelse,cat\nfish,7\n", ("fish", "else"), ((0, 4), (3,))),
        ('\ufeff# mine\r\n\r\nbird,"crane, bird"\r\nrest,*\r\n', ("bird", "rest"), ((1,), (0, 2, 3, 4))),
        ("a, 3\nb,*\nb,1\n", ("a", "b"), ((3,), (1, 0, 2, 4))),
    ],
    ids=["names and a name that is a number", "quotes and the rest", "indices"],
)
def test_a_row_gives_a_class_of_the_teacher_to_an_own_class(tmp_path, named, text, names, groups):
    teacher = mapped(named, tmp_path, text)
    assert (teacher.class_names, teacher.class_map, teacher.classes) == (names, groups, 2)
    assert (teacher.subset, teacher.subset_of, teacher.fingerprint) == ((), 0, named.fingerprint)


def test_imagenet_classes_are_found_by_name_id_and_index(tmp_path, unnamed):
    teacher = mapped(unnamed, tmp_path, f"tie,Bow_Tie\ntie,{WNIDS[906]}\nfish,0\nfish,goldfish\n")
    assert teacher.class_map == ((457, 906), (0, 1))


@pytest.mark.parametrize("rest", ["", "other,*\n"])
def test_an_own_class_is_as_probable_as_its_classes_together(tmp_path, unnamed, rest):
    teacher = mapped(unnamed, tmp_path, f"b,3\na,998\na,0\na,17\n{rest}")
    p = np.exp(log_softmax(mean_color_logits(pictures(size=16) / 255, 1001)[:, 1:]))
    expected = np.stack([p[:, 3], p[:, [998, 0, 17]].sum(1)], 1)
    if rest:
        expected = np.column_stack([expected, 1 - expected.sum(1)])
    expected /= expected.sum(1, keepdims=True)
    answered = teacher.log_probs(tf.cast(pictures(size=16), tf.float32))
    np.testing.assert_allclose(np.exp(answered), expected, rtol=1e-4)


def test_a_class_without_any_probability_stays_a_number(tmp_path, named):
    teacher = mapped(named, tmp_path, "fish,0\nelse,*\n")
    sure = dataclasses.replace(teacher.network, call=lambda images: tf.constant([[900.0, 0.0, 0.0, 0.0, 0.0]]))
    answered = dataclasses.replace(teacher, network=sure).log_probs(tf.zeros((1, 16, 16, 3)))
    np.testing.assert_allclose(answered, [[0.0, np.log(4) - 900.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 own classes; give two or more"),
        ("a,cat\na,7\n", "has 1 own classes; give two or more"),
        ("a,cat\n\nb,cat\n", "line 3: cat is the class of line 1 again; remove one"),
        ("a,cat\nb,tenhc\n", "line 2: teacher .* has no class tenhc; did you mean tench"),
        ("a,cat\nb,crane\n", "line 2: crane names the classes 1 and 2 of teacher"),
        ("a,cat\nb,5\n", "line 2: teacher .* has no class 5; its classes are 0 to 4"),
        ("a,cat\nb,*\nc,*\n", r"line 3: \* stands for the rest of the classes once"),
        ("a,0\na,1\na,2\na,3\na,7\nb,*\n", "leaves no class of the teacher to b"),
        ("a,cat\nb,crane, bird\n", "line 2: b,crane,bird is not an own class and a class of the teacher"),
        ("a,cat\nb,\n", "line 2: b, is not an own class"),
    ],
)
def test_a_map_that_cannot_be_followed_is_refused_by_line(tmp_path, named, text, message):
    with pytest.raises(UserError, match=message) as refusal:
        mapped(named, tmp_path, text)
    assert f"--class-map {tmp_path / 'map.csv'}" in str(refusal.value)


def test_the_shipped_map_makes_cifar10_of_imagenet(unnamed):
    teacher = class_map.map_classes(unnamed, str(ROOT / "recipes" / "imagenet-to-cifar10.csv"))
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert teacher.class_names == names
    assert {group[0] for group in teacher.class_map} >= {404, 281, 30}
    assert len(teacher.class_map[5]) == 118  # ImageNet's breeds of dogs


TEACHER = {"fingerprint": "f", "interpolation": "area", "weight": 1.0}
SPEC = LabelSpec("d", "1", "2", 10, 4, (TEACHER,), 2, ("a", "b"), 2)


def with_map(groups, names=("a", "b")):
    return dataclasses.replace(SPEC, teachers=({**TEACHER, "class_map": groups},), class_names=names)


def test_labels_by_another_map_do_not_mix():
    one = with_map([[0, 1], [2]])
    assert LabelSpec.from_json(one.to_json()) == one
    assert one.differences(with_map([[0, 1], [2]])) == []
    for other in (with_map([[0], [1, 2]]), with_map([[0, 1], [2]], ("a", "c")), SPEC):
        ((difference),) = one.differences(other)
        assert difference.startswith("class map: 2 own classes (a, b, ...: ")
    assert one.differences(SPEC)[0].endswith("there, none asked for")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of reddish and bluish images, called like classes of ImageNet, and two teachers of its classes."""
    place = tmp_path_factory.mktemp("place")
    files = {}
    for number in range(12):
        for folder, channel in (("bow_tie", 0), ("Goldfish", 2)):
            pixels = np.random.default_rng(number).integers(0, 90, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            files[f"{folder}/{number:02d}.png"] = encoded(pixels)
    write_folder(place / "photos", files)
    save_hub_module(place / "first", classes=1001)
    save_hub_module(place / "second", classes=1000, softmax=True, seed=1)
    (place / "map.csv").write_text("own_class,teacher_class\nbow tie,bow tie\ngoldfish,goldfish\nneither,*\n")
    return place


def label(place, out, *switches):
    flags = ["--images", f"folder:{place / 'photos'}", "--cache", place / "cache", "--out", place / out]
    flags += ["--teacher", place / "first", "--no-gate", "--runtime", "tensorflow", "--batch-size", 8, *switches]
    return label_imagenet64.run(command.parse(label_imagenet64.Config, list(map(str, flags)), "label", ""))


def test_folders_that_are_classes_of_the_teacher_are_offered_and_measured(place, capsys):
    figures = label(place, "whole")
    said = capsys.readouterr()
    assert "your 2 folders are classes of this teacher: --classes folders answers among them" in said.err
    assert figures["top1"] is not None and "class 4" not in said.out
    figures = label(place, "folders", "--classes", "folders")
    assert "--classes folders answers" not in capsys.readouterr().err
    spec = open_labels(place / "folders").spec
    assert (spec.subset, spec.class_names) == ((1, 457), (WNIDS[1], WNIDS[457]))
    answered = open_labels(place / "folders").read_all().top_k[:, 0, 0]
    truth = np.repeat([0, 1], 12)  # Goldfish comes before bow_tie.
    assert figures["top1"] == pytest.approx(np.mean(answered == truth))
    listed = label(place, "listed", "--classes", "goldfish,n02883205")
    assert open_labels(place / "listed").spec.subset == (1, 457) and listed["top1"] == figures["top1"]


def test_folders_of_images_without_any_are_refused(unnamed):
    with pytest.raises(FlagError, match="--classes folders: the images lie in no class folders"):
        class_subset.restrict(unnamed, "folders")
    with pytest.raises(UserError, match=r"--classes folders, class beach: teacher .* has no class beach"):
        class_subset.restrict(unnamed, "folders", [("goldfish", "goldfish"), ("beach", "beach")])


def test_two_teachers_and_views_answer_over_own_classes_and_verify(place, capsys):
    two = ("--teacher", place / "second", "--class-map", place / "map.csv", "--views", "identity,flip")
    figures = label(place, "mapped", *two)
    spec = open_labels(place / "mapped").spec
    assert spec.class_names == ("bow tie", "goldfish", "neither")
    assert [len(teacher["class_map"][2]) for teacher in spec.teachers] == [998, 998]
    assert figures["labeled"] == 24
    assert label(place, "mapped", *two)["labeled"] == 0
    assert label(place, "mapped", "--status", *two)["labeled"] == 24
    assert label(place, "mapped", "--verify", *two)["recomputed_same_top1"] == 1.0
    (place / "other.csv").write_text("bow tie,bow tie\ngoldfish,goldfish\n")
    with pytest.raises(UserError, match=r"holds labels made otherwise \(.*class map: 3 own classes \(bow tie, "):
        label(place, "mapped", *two[:2], "--class-map", place / "other.csv", *two[4:])
    assert "neither" in capsys.readouterr().out


def test_a_subset_and_a_map_exclude_each_other(place):
    with pytest.raises(FlagError, match="--classes and --class-map both say which classes there are"):
        label(place, "both", "--classes", "folders", "--class-map", place / "map.csv")
