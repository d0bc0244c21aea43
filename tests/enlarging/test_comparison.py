"""The ways of enlarging, compared: the figures against counting by hand, and a recommendation that sees no truth."""

import csv
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jobs import command, compare_interpolations
from labeling.enlarging import comparison, interpolation
from labeling.enlarging.expert import Expert
from labeling.teachers.teacher import load_teacher
from tests.support.images import store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tests.support.tiny_teachers import MeanColors, save_hub_module
from tfpipeline.batches import Answers
from tfpipeline.images import parse_joined, spread_evenly
from tfpipeline.system.errors import FlagError

SIZE, CLASSES = 20, 6


def teacher_of(log_probs, size=SIZE):
    return types.SimpleNamespace(name="made", size=size, classes=CLASSES, log_probs=log_probs)


def recommend_alone(teacher, images, **options):
    """What is recommended for a teacher alone."""
    (method,) = comparison.recommend_together([Expert(teacher, comparison.AUTO)], images, **options)
    return method


def response_of(probabilities, mirrored=None):
    """The Response that an (N, classes) array of probabilities makes."""
    p = np.asarray(probabilities, float)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    top = np.argsort(-p, axis=1, kind="stable")[:, :5]
    with np.errstate(divide="ignore"):
        answers = Answers(top, np.log(np.take_along_axis(p, top, 1)), np.full(len(p), -np.inf))
    first_mirrored = top[:, 0] if mirrored is None else np.asarray(mirrored)
    return comparison.Response(answers, first_mirrored, -(p * logs).sum(1), p.mean(0))


@pytest.mark.parametrize(
    ("probabilities", "nats"),
    [
        (np.eye(4), np.log(4)),
        (np.full((5, 4), 0.25), 0.0),
        (np.tile([[1.0, 0, 0, 0]], (5, 1)), 0.0),
        ([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], np.log(2)),
    ],
    ids=["decided and diverse", "undecided", "collapsed", "half decided"],
)
def test_information_is_diversity_less_doubt(probabilities, nats):
    assert response_of(probabilities).information == pytest.approx(nats)


@pytest.mark.parametrize("batch_size", [3, 7])
def test_answers_are_those_of_a_plain_loop(batch_size):
    module = MeanColors(CLASSES, size=SIZE)
    weighting = np.random.default_rng(1).normal(size=(1, SIZE, SIZE, 1)).astype(np.float32)

    def log_probs(pixels):
        return tf.nn.log_softmax(module(pixels * weighting / 20))

    images = np.stack([pixels_of(number, 6, 9) for number in range(7)])
    found = comparison.answer_all(teacher_of(log_probs), images, batch_size)
    assert tuple(found) == interpolation.METHODS
    for method, response in found.items():
        enlarged, flipped = (
            tf.clip_by_value(tf.image.resize(np.float32(seen), (SIZE, SIZE), method), 0, 255)
            for seen in (images, images[:, :, ::-1])
        )
        p = np.exp(log_probs(enlarged).numpy().astype(np.float64))
        np.testing.assert_array_equal(response.answers.top_k, np.argsort(-p, axis=1)[:, :5])
        np.testing.assert_array_equal(response.first_mirrored, np.argmax(log_probs(flipped), 1))
        np.testing.assert_allclose(response.answers.confidence, p.max(1), rtol=1e-4)
        np.testing.assert_allclose(response.entropy, -(p * np.log(p)).sum(1), rtol=1e-3)
        np.testing.assert_allclose(response.mean, p.mean(0), rtol=1e-4)


@pytest.mark.parametrize("used_to", interpolation.METHODS)
def test_the_recommendation_is_what_the_teacher_is_used_to(used_to):
    """A teacher that knows each class by one picture, enlarged in one way, and doubts what looks otherwise."""
    pictures = np.stack([pixels_of(number, 6, 6) for number in range(CLASSES)])
    known = interpolation.enlarge(pictures, SIZE, used_to)

    def log_probs(pixels):
        distances = tf.reduce_mean(tf.abs(pixels[:, None] - known[None]), (2, 3, 4))
        return tf.nn.log_softmax(-distances * tf.exp(-tf.reduce_min(distances, 1, keepdims=True)))

    # "area" enlarges as "nearest" does: which of the two it is cannot be seen.
    same = {"nearest": "nearest", "area": "nearest"}
    found = recommend_alone(teacher_of(log_probs), pictures, batch_size=4)
    assert same.get(found, found) == same.get(used_to, used_to)


def test_confidence_in_one_class_is_not_recommended():
    """Nearest neighbours have steps; this teacher answers them all with class 0, and is more certain of it."""

    def log_probs(pixels):
        steps = tf.reduce_mean(tf.cast(pixels[:, 1:] == pixels[:, :-1], tf.float32), (1, 2, 3))
        decided = 4 * tf.one_hot(tf.argmax(tf.reduce_mean(pixels, (1, 2)), -1), CLASSES)
        return tf.nn.log_softmax(tf.where(steps[:, None] > 0.4, 9 * tf.one_hot([0], CLASSES), decided))

    images = np.stack(
        [np.roll(np.array([250, 5, 5], np.uint8) * np.ones((6, 6, 1), np.uint8), n, -1) for n in range(6)]
    )
    images = images + np.arange(6, dtype=np.uint8)[:, None, None] % 3 + np.arange(6, dtype=np.uint8)[:, None] % 2
    found = comparison.answer_all(teacher_of(log_probs), images, batch_size=6)
    assert found["nearest"].answers.confidence.mean() > found["bilinear"].answers.confidence.mean()
    assert comparison.recommend(found) not in ("nearest", "area")


def test_images_that_are_not_enlarged_need_no_answers():
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    assert recommend_alone(teacher_of(None), images) == "bilinear"


def sure_of(probability, classes):
    """Log-probabilities of four images: so sure of the class where one is given, undecided where it is None."""
    rest = (1 - probability) / 3
    p = np.array(
        [np.full(4, 0.25) if index is None else (probability - rest) * np.eye(4)[index] + rest for index in classes]
    )
    return np.log(p)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("auto", "auto"), ["bicubic", "lanczos3"]),
        (("bilinear", "auto"), ["bilinear", "lanczos5"]),
        (("bilinear", "lanczos3"), ["bilinear", "lanczos3"]),
    ],
)
def test_teachers_that_answer_together_complete_each_other(monkeypatch, asked, expected):
    """Alone, the first one tells more with bilinear; with what the second one knows, bicubic tells more."""
    knows = {
        ("a", "bilinear"): (0.995, [0, 1, None, None]),
        ("a", "bicubic"): (0.99, [None, None, 2, 3]),
        ("b", "lanczos3"): (0.995, [0, 1, None, None]),
        ("b", "lanczos5"): (0.9, [None, None, 2, 3]),
    }
    both_views, asked_for = parse_joined("identity+flip"), []

    def answer_all(teacher, images, *_, **__):
        return {
            method: response_of(np.exp(sure_of(*knows[name, method]))) for name, method in knows if name == teacher.name
        }

    def freeze(experts, views, _):
        asked_for.extend(views)
        known = sure_of(*knows[experts[0].teacher.name, experts[0].interpolation])
        return lambda _images: [tf.constant(known[:, None])]

    monkeypatch.setattr(comparison, "answer_all", answer_all)
    monkeypatch.setattr(comparison, "freeze", freeze)
    experts = [Expert(types.SimpleNamespace(name=name, size=SIZE), way) for name, way in zip("ab", asked, strict=True)]
    images = np.zeros((4, 6, 6, 3), np.uint8)
    assert comparison.recommend_together(experts, images, both_views) == expected
    assert set(asked_for) <= {both_views}


def test_figures_count_what_a_person_would():
    mine = {"a": response_of(np.eye(3), mirrored=[0, 1, 0]), "b": response_of(np.eye(3)[[0, 0, 2]])}
    other = {"a": response_of(np.eye(3)[[0, 1, 1]])}
    figures = comparison.figures(mine, [other], truth=np.array([0, -1, 1]))
    assert figures["a"].flip_agreement == pytest.approx(2 / 3)
    assert figures["a"].agreement == pytest.approx(2 / 3)
    assert figures["b"].teacher_agreement == pytest.approx(1 / 3)
    assert (figures["a"].top1, figures["a"].top5) == (0.5, 1.0)
    assert figures["a"].top_probability == 1 and figures["a"].entropy == 0
    assert comparison.figures(mine)["a"].teacher_agreement is None
    assert comparison.figures(mine)["a"].top1 is None
    assert comparison.figures(mine, [{"a": response_of(np.eye(4)[:3])}])["a"].teacher_agreement is None


@pytest.fixture(scope="module")
def two_teachers(tmp_path_factory):
    place = tmp_path_factory.mktemp("teachers")
    return [save_hub_module(place / name, 12, size=96, seed=seed) for seed, name in enumerate(("one", "two"))]


def run(specs, out, *more):
    argv = [f"--teacher={spec}" for spec in specs] + ["--out", str(out), "--quiet", *map(str, more)]
    return compare_interpolations.run(command.parse(compare_interpolations.Config, argv, "compare", ""))


@pytest.mark.slow
def test_the_command_with_truth(tmp_path, two_teachers, capsys):
    figures = run(two_teachers, tmp_path / "out", "--images", "shapes", "--limit", 30, "--cache", tmp_path / "cache")
    assert figures["images"] == 30
    for name in ("one", "two"):
        top1 = {method: shares["top1"] for method, shares in figures["table"][name].items()}
        assert tuple(top1) == interpolation.METHODS
        assert figures["loss"][name] == max(top1.values()) - top1[figures["recommended"][name]]
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["teacher"] for row in rows] == ["one"] * 8 + ["two"] * 8
    assert [row["interpolation"] for row in rows if row["recommended"] == "1"] == list(figures["recommended"].values())
    assert float(rows[0]["top5"]) == figures["table"]["one"]["nearest"]["top5"]
    with (
        Image.open(tmp_path / "out" / "contact_sheet.png") as sheet,
        Image.open(tmp_path / "out" / "comparison.png") as bars,
    ):
        assert sheet.width > 9 * 96 and sheet.height > 10 * 96
        assert bars.width > 1000
    assert f"recommended without truth: {figures['recommended']['one']}, which loses" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_without_truth(tmp_path, two_teachers, capsys):
    write_folder(tmp_path / "images", {f"{number}.png": encoded(pixels_of(number, 8, 8)) for number in range(5)})
    images = ("--images", f"folder:{tmp_path / 'images'}", "--cache", tmp_path / "cache", "--sample", 3)
    figures = run(two_teachers[:1], tmp_path / "out", *images)
    assert figures["images"] == 3
    assert set(figures["recommended"]) == {"one"} and figures["loss"] == {"one": None}
    assert figures["table"]["one"]["area"] == {"top1": None, "top5": None}
    assert "which loses" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--sample", 0], "--sample is 0"), (["--teacher", "one"], "--teacher one is given more than once")],
)
def test_flags_that_cannot_be_used(tmp_path, more, message):
    with pytest.raises(FlagError, match=message):
        run(["one"], tmp_path / "out", "--images", "shapes", *more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "within_a_point"),
    [
        ("mobilenet_v2_100_224", ("bilinear", "bicubic", "mitchellcubic")),
        ("mobilenet_v1_0.75_224.keras", ("lanczos3", "lanczos5")),
    ],
)
@pytest.mark.long
def test_real_teachers_get_one_of_their_best_from_a_hundred_images(tmp_path, real_data, name, within_a_point):
    """The best on all 1,000 images, by docs/results.md."""

    store = store_of(f"archive:{real_data / 'imagenet64' / 'thousand_64x64.tar'}", cache=tmp_path)
    images = store.images[spread_evenly(len(store), 100)]
    assert recommend_alone(load_teacher(str(real_data / "teachers" / name)), images, batch_size=50) in within_a_point
