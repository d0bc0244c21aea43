"""A teacher restricted to a subset of its classes: the file, the answers, and the truth counted in its positions."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from jobs import command, evaluate, label_imagenet64, train
from jobs.training.data import join_held_out
from labeling.enlarging.expert import Expert
from labeling.labels import quality
from labeling.labels.spec import LabelSpec, count_alike
from labeling.labels.store import open_labels
from labeling.teachers import class_subset
from labeling.teachers.teacher import load_teacher
from labeling.work import gate
from tests.support.console import RecordingConsole
from tests.support.images import store_of
from tests.support.tiny_teachers import log_softmax, mean_color_logits, pictures, save_hub_module
from tfpipeline.images.npz_source import resized_order
from tfpipeline.system.console import SILENT
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.system.flags import change, from_flat

WNIDS = sorted(resized_order())


def restricted(teacher, tmp_path, text, image_classes=()):
    (tmp_path / "classes.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return class_subset.restrict(teacher, str(tmp_path / "classes.txt"), image_classes)


@pytest.mark.parametrize(
    ("text", "subset", "names"),
    [
        ("cat\ntench, Tinca tinca\n", (3, 0), ("cat", "tench, Tinca tinca")),
        ("\ufeff# mine\r\n\r\n  tench \r\n7\r\n", (0, 4), ("tench, Tinca tinca", "7")),
        ("4\n1\n", (4, 1), ("7", "crane, bird")),
        ("crane, machine\ncrane, bird", (2, 1), ("crane, machine", "crane, bird")),
    ],
    ids=["whole names", "comments and short names", "indices", "names with commas"],
)
def test_the_file_lists_classes_in_the_order_of_the_answers(tmp_path, named, text, subset, names):
    teacher = restricted(named, tmp_path, text)
    assert (teacher.subset, teacher.class_names, teacher.classes, teacher.subset_of) == (subset, names, 2, 5)
    assert teacher.fingerprint == named.fingerprint
    assert teacher.note.endswith("restricted to 2 of them")


def test_answers_are_renormalized_over_the_subset(tmp_path, unnamed):
    chosen = [999, 3, 500, 0]
    teacher = restricted(unnamed, tmp_path, "\n".join(map(str, chosen)))
    logits = mean_color_logits(pictures(size=16) / 255, 1001)[:, 1:]
    answered = teacher.log_probs(tf.cast(pictures(size=16), tf.float32))
    np.testing.assert_allclose(answered, log_softmax(logits[:, chosen]), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists 0 classes; list at least two"),
        ("# only this\n\ncat\n", r"lists 1 classes \(line 3: cat\); list at least two"),
        ("cat\n\n# again\ncat\n", "line 4: cat is the class of line 1 again; remove one"),
        ("tench\ntench, Tinca tinca\n", "line 2: tench, Tinca tinca is the class of line 1 again"),
        ("1\n01\n", "line 2: 01 is the class of line 1 again"),
        ("cat\ntenhc\n", r"line 2: teacher .* has no class tenhc; did you mean tench"),
        ("cat\nxylophone\n", "line 2: teacher .* has no class xylophone; its first is tench, Tinca tinca"),
        ("cat\ncrane\n", "line 2: crane names the classes 1 and 2 of teacher .*; list them by their whole names"),
        ("0\n5\n", "line 2: teacher .* has no class 5; its classes are 0 to 4"),
        ("cat\n-1\n", "line 2: teacher .* has no class -1"),
        (b"cat\n\xff\xfe\n", "is no text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_by_line(tmp_path, named, text, message):
    with pytest.raises(UserError, match=message) as refusal:
        restricted(named, tmp_path, text)
    assert f"--classes {tmp_path / 'classes.txt'}" in str(refusal.value)


def test_a_missing_file_is_named(tmp_path, named):
    with pytest.raises(UserError, match=r"--classes .*gone cannot be read \(No such file or directory\)"):
        class_subset.restrict(named, str(tmp_path / "gone"))


def test_a_teacher_of_imagenet_is_asked_by_wordnet_id(tmp_path, unnamed):
    teacher = restricted(unnamed, tmp_path, f"{WNIDS[7]}\n{WNIDS[2]}\n")
    assert (teacher.subset, teacher.class_names) == ((7, 2), (WNIDS[7], WNIDS[2]))
    with pytest.raises(UserError, match=r"line 2: teacher .* has no class n00000000; did you mean n0"):
        restricted(unnamed, tmp_path, f"{WNIDS[7]}\nn00000000\n")


def test_the_images_may_name_the_classes_of_a_teacher_that_does_not(tmp_path, unnamed):
    classes = [(wnid, f"name {i}, other") for i, wnid in enumerate(WNIDS)]
    classes[3] = (WNIDS[3], "name 4, another")
    teacher = restricted(unnamed, tmp_path, f"name 7\n{WNIDS[2]}\nname 5, other\n", classes)
    assert (teacher.subset, teacher.class_names) == ((7, 2, 5), (WNIDS[7], WNIDS[2], WNIDS[5]))
    with pytest.raises(UserError, match=r"line 1: name 4 names the classes 3 and 4 .*; list them by WordNet id"):
        restricted(unnamed, tmp_path, "name 4\nname 5\n", classes)


def test_a_teacher_that_nobody_names_is_asked_by_index(tmp_path, named):
    silent = dataclasses.replace(named, class_names=None)
    with pytest.raises(UserError, match=r"line 1: cat: teacher .* does not name its 5 classes; list them by index"):
        restricted(silent, tmp_path, "cat\n7\n")
    assert restricted(silent, tmp_path, "3\n1\n").class_names is None


def labels_of(**fields):
    """What a LabelSpec says of its classes."""
    return types.SimpleNamespace(**{"class_names": (), "subset": (), "subset_of": 0} | fields)


def images_of(truth, classes):
    return types.SimpleNamespace(truth=np.array(truth, np.int32), classes=classes)


IMAGENET = [(wnid, f"name {i}") for i, wnid in enumerate(WNIDS)]
FOLDERS = [(wnid, wnid) for wnid in (WNIDS[5], WNIDS[900], WNIDS[2])]


@pytest.mark.parametrize(
    ("labels", "classes", "truth", "expected"),
    [
        (labels_of(classes=3, subset=(7, 2, 5), subset_of=1000), IMAGENET, [7, 2, 0, -1], [0, 1, -1, -1]),
        (labels_of(classes=3, subset=(7, 2, 5), subset_of=1000), FOLDERS, [0, 1, 2, -1], [2, -1, 1, -1]),
        (
            labels_of(classes=2, subset=(2, 5), subset_of=1000, class_names=(WNIDS[2], WNIDS[5])),
            FOLDERS,
            [0, 2],
            [1, 0],
        ),
        (
            labels_of(classes=2, subset=(3, 0), subset_of=5, class_names=("d", "a")),
            [("a", "a"), ("d", "d")],
            [0, 1],
            [1, 0],
        ),
        (labels_of(classes=2, subset=(3, 0), subset_of=4), [(c, c) for c in "abcd"], [0, 1, 3], [1, -1, 0]),
        (labels_of(classes=1000), FOLDERS, [0, 1, 2], [5, 900, 2]),
        (labels_of(classes=2, class_names=("crane", "crane")), [("n1", "crane"), ("n2", "crane")], [0, 1], [0, 1]),
    ],
    ids=["index", "wnid of folders", "wnid in labels", "name", "index of few", "no subset", "two of one name"],
)
def test_truth_is_counted_in_the_positions_of_the_subset(labels, classes, truth, expected):
    assert quality.known_truth(labels, images_of(truth, classes)).tolist() == expected


def test_truth_of_other_classes_is_no_truth():
    labels = labels_of(classes=2, subset=(3, 0), subset_of=5)
    console = RecordingConsole()
    assert quality.known_truth(labels, images_of([0, 1], [("x", "x"), ("y", "y")]), console) is None
    assert "the truth counts 2 classes and the teacher 5" in console.lines[0]


def test_names_of_a_subset():
    known = images_of([0], IMAGENET)
    assert quality.class_names(labels_of(classes=2, subset=(7, 2), subset_of=1000), known.classes) == [
        "name 7",
        "name 2",
    ]
    by_id = labels_of(classes=2, subset=(7, 2), subset_of=1000, class_names=(WNIDS[7], WNIDS[2]))
    assert quality.class_names(by_id, known.classes) == ["name 7", "name 2"]
    assert quality.class_names(by_id) == [
        "cock",
        "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias",
    ]
    assert quality.class_names(labels_of(classes=2, subset=(7, 2), subset_of=9), known.classes) == [
        "class 7",
        "class 2",
    ]


SPEC = LabelSpec("d", "1", "2", 10, 4, (), 3, (), 3)


def test_a_store_of_all_classes_is_written_as_before_there_were_subsets():
    assert "subset" not in SPEC.to_json()
    some = dataclasses.replace(SPEC, subset=(5, 0, 2), subset_of=9)
    assert [LabelSpec.from_json(spec.to_json()) for spec in (SPEC, some)] == [SPEC, some]


def test_another_subset_does_not_mix():
    some = dataclasses.replace(SPEC, subset=(5, 0, 2), subset_of=9)
    other = dataclasses.replace(some, subset=(5, 0, 3))
    assert some.differences(some) == []
    ((difference),) = some.differences(other)
    assert (
        difference.startswith("subset: 3 of 9 classes (5, 0, 2, ...: ")
        and "there, 3 of 9 classes (5, 0, 3" in difference
    )
    assert some.differences(SPEC)[0].endswith("there, all classes asked for")
    assert not count_alike(some, other)
    assert not count_alike(SPEC, some)
    assert count_alike(*(dataclasses.replace(spec, class_names=("a", "b", "c")) for spec in (SPEC, some)))


@pytest.mark.slow
def test_the_gate_looks_at_all_classes_of_the_network(tmp_path):
    whole = load_teacher("bundled")
    two = restricted(whole, tmp_path, "\n".join(whole.class_names[:2]))
    seen = pictures(96)
    assert gate.check(Expert(two, "bilinear"), seen, np.arange(96) % 12, 0, 32) == gate.check(
        Expert(whole, "bilinear"), seen, np.arange(96) % 12, 12, 32
    )


@pytest.mark.slow
def test_teachers_that_count_otherwise_do_not_answer_together(tmp_path):
    for name, order in (("a", "xyz"), ("b", "zyx")):
        directory = save_hub_module(tmp_path / name, classes=3, size=64)
        (directory / "classes.txt").write_text("\n".join(order))
    flags = ["--images", "shapes", "--limit", "30", "--cache", tmp_path / "cache", "--no-gate", "--quiet"]
    flags += ["--out", tmp_path / "labels", "--teacher", tmp_path / "a", "--teacher", tmp_path / "b"]
    config = command.parse(label_imagenet64.Config, list(map(str, flags)), "label", "")
    with pytest.raises(FlagError, match=r"in other orders, cannot answer together \(a 3, b 3\)"):
        label_imagenet64.run(config)
    (tmp_path / "both.txt").write_text("y\nz\n")
    label_imagenet64.run(change(config, classes=str(tmp_path / "both.txt")))
    assert open_labels(tmp_path / "labels").spec.class_names == ("y", "z")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Labels of shapes over three of the bundled teacher's twelve classes, and a run that learned from them."""
    place = tmp_path_factory.mktemp("subset")
    names = load_teacher("bundled").class_names
    (place / "classes.txt").write_text("\n".join([names[7], names[2], names[4]]))
    for split in ("train", "valid"):
        label_imagenet64.run(labels_config(place, split, place / split))
    figures = train.run(
        from_flat(
            train.Config,
            {
                "images": "shapes",
                "limit": 96,
                "cache": str(place / "cache"),
                "labels": str(place / "train"),
                "quiet": True,
                "validation_limit": 96,
                "validation_labels": str(place / "valid"),
                "run": str(place / "run"),
                "epochs": 1,
                "batch_size": 32,
                "network": "patchify_net",
            },
        )
    )
    return place, figures


def labels_config(place, split, out, classes="classes.txt"):
    return from_flat(
        label_imagenet64.Config,
        {
            "images": "shapes",
            "split": split,
            "limit": 96,
            "cache": str(place / "cache"),
            "teacher": ("bundled",),
            "out": str(out),
            "classes": str(place / classes),
            "quiet": True,
        },
    )


@pytest.mark.slow
def test_labels_over_a_subset_are_learned_and_measured_in_its_positions(place):
    place, figures = place
    store = store_of("shapes", split="valid", limit=96, cache=place / "cache")
    labels = open_labels(place / "valid")
    names = [name for _, name in store.classes]
    position = {names.index(name): index for index, name in enumerate(labels.spec.class_names)}
    truth = np.array([position.get(index, -1) for index in store.truth.tolist()])
    answers = labels.read_all().top_k[:, 0, 0]
    expected = np.mean((answers == truth)[truth >= 0])
    assert labels.spec.subset == (7, 2, 4) and labels.spec.subset_of == 12
    assert expected > 0.8  # The bundled teacher knows shapes.
    evaluated = evaluate.run(
        from_flat(
            evaluate.Config,
            {
                "run": str(place / "run"),
                "images": "shapes",
                "split": "valid",
                "limit": 96,
                "cache": str(place / "cache"),
                "labels": str(place / "valid"),
                "quiet": True,
            },
        )
    )
    assert evaluated["teacher_top1"] == pytest.approx(expected)
    assert evaluated["top1"] == pytest.approx(figures["validation_top1"])
    again = label_imagenet64.run(labels_config(place, "valid", place / "valid"))
    assert (again["labeled"], again["top1"]) == (0, pytest.approx(expected))


@pytest.mark.slow
def test_labels_over_another_subset_are_refused(place):
    place, _ = place
    (place / "other.txt").write_text("\n".join(load_teacher("bundled").class_names[:3]))
    with pytest.raises(UserError, match=r"holds labels made otherwise \(subset: 3 of 12 classes \(7, 2, 4, ..."):
        label_imagenet64.run(labels_config(place, "valid", place / "valid", "other.txt"))
    label_imagenet64.run(labels_config(place, "valid", place / "other", "other.txt"))
    counting = open_labels(place / "train").spec
    training = types.SimpleNamespace(classes=3, images=np.zeros((1, 64, 64, 3), np.uint8), counting=counting)
    store = store_of("shapes", split="valid", limit=96, cache=place / "cache")
    with pytest.raises(UserError, match=r"count other classes, or in another order, than --labels; .*same --classes"):
        join_held_out(store, str(place / "other"), training, SILENT)
    flags = {"images": "shapes", "split": "valid", "limit": 96, "cache": str(place / "cache"), "quiet": True}
    with pytest.raises(UserError, match=r"--labels .*other count other classes, or in another order, than .*train"):
        evaluate.run(from_flat(evaluate.Config, {"run": str(place / "run"), "labels": str(place / "other"), **flags}))
