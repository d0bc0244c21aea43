"""Labels judged by second opinions: the formulas against NumPy on full distributions, and the command's files."""

import csv
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from jobs import command, label_imagenet64, label_quality
from labeling.labels.opinions import (
    confident_disagreement,
    fit_temperature,
    opinions_of,
    trust,
    worst_classes,
)
from labeling.labels.span import Span
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels
from tests.support.images import store_of
from tests.support.images_on_disk import encoded, write_folder
from tfpipeline.batches import Answers
from tfpipeline.images import shapes
from tfpipeline.system.errors import UserError

CLASSES, K = 12, 4


def distributions(n=40, classes=CLASSES, seed=0):
    """Probabilities float64 (n, classes)."""
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), n)


def labels_of(*views, k=K):
    """The Answers that (N, classes) probabilities make, one array for each view."""
    p = np.stack(views, axis=1)
    top_k = np.argsort(-p, axis=-1)[..., :k]
    top = np.take_along_axis(p, top_k, -1)
    with np.errstate(divide="ignore"):
        log_tail = np.log(np.maximum(1 - top.sum(-1), 0) if k < p.shape[-1] else np.zeros(top.shape[:2]))
        return Answers(top_k.astype(np.uint16), np.log(top).astype(np.float16), log_tail.astype(np.float16))


def opinion_of(p, k=K):
    return opinions_of(labels_of(p, k=k), p.shape[1], ["made"])[0]


def spread(opinion):
    """The opinion as probabilities (N, K): the tail shared evenly."""
    everything = np.tile(np.arange(CLASSES), (len(opinion.answers), 1))
    return np.exp(np.stack([opinion.log_probability_of(column) for column in everything.T], axis=1))


@pytest.mark.parametrize("k", [1, K, CLASSES])
def test_an_opinion_is_a_distribution_at_every_temperature(k):
    opinion = opinion_of(distributions(), k)
    p = spread(opinion)
    np.testing.assert_allclose(p.sum(1), 1, atol=2e-3)  # float16
    np.testing.assert_allclose(p.max(1), distributions().max(1), rtol=5e-3)
    for temperature in (0.5, 2.0):
        powers = p ** (1 / temperature)
        expected = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(spread(opinion.at(temperature)), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("k", [K, CLASSES])
@pytest.mark.parametrize("true_temperature", [0.6, 1.0, 1.9])
def test_the_temperature_is_the_one_that_predicts_best(k, true_temperature):
    opinion = opinion_of(distributions(400), k)
    rng = np.random.default_rng(1)
    drawn = np.array([rng.choice(CLASSES, p=row / row.sum()) for row in spread(opinion.at(true_temperature))])
    drawn[::7] = -1
    found = fit_temperature(opinion, [drawn])
    assert found == pytest.approx(true_temperature, rel=0.25)

    def loss(temperature):
        seen = drawn >= 0
        return -np.mean(opinion.at(temperature).log_probability_of(np.maximum(drawn, 0))[seen])

    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))


def test_references_worse_than_chance_leave_no_confidence():
    p = distributions()
    assert fit_temperature(opinion_of(p, CLASSES), [p.argmin(1)]) == np.inf


def test_trust_and_disagreement():
    mine = opinion_of(np.array([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1]]), 3)
    theirs = opinion_of(np.array([[0.1, 0.8, 0.1], [0.5, 0.2, 0.3]]), 3)
    np.testing.assert_allclose(trust(mine, [theirs]), [0.5, 0.55], rtol=1e-3)
    np.testing.assert_allclose(trust(mine, []), [0.9, 0.6], rtol=1e-3)
    np.testing.assert_allclose(confident_disagreement(mine, [theirs]), [0.72, 0], rtol=1e-3)


def test_the_worst_classes_and_all_others():
    truth = np.array([0, 0, 1, 2, 3, 3, -1])
    answers = np.array([1, 0, 1, 2, 0, 3, 2])
    chosen, matrix = worst_classes(answers, truth, 4, most=2)
    assert chosen.tolist() == [0, 1]
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert len(worst_classes(truth, truth, 4, most=2)[0]) == 0


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return store_of("shapes", limit=40, cache=tmp_path_factory.mktemp("cache"))


def make_labels(directory, images, *views, names=("identity",)):
    files = images.description["files"]
    teacher = {"name": directory.name, "fingerprint": directory.name}
    spec = LabelSpec(
        images.fingerprint, files["images.npy"], files["names.txt"], 40, 40, (teacher,), views[0].shape[1], (), K, names
    )
    create_labels(directory, spec).write_shard(Span(0, 40), labels_of(*views))
    return directory


def run(images, labels, out, *more):
    argv = ["--labels", labels, "--images", "shapes", "--limit", 40, "--cache", images.directory.parent, "--out", out]
    return label_quality.run(command.parse(label_quality.Config, [*map(str, [*argv, *more]), "--quiet"], "quality", ""))


def files_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.slow
def test_the_command_with_truth_and_second_opinions(tmp_path, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)  # As where it is not installed.
    mine, mirrored, theirs = (distributions(seed=seed) for seed in range(3))
    labels = make_labels(tmp_path / "a", images, mine, mirrored, names=("identity", "flip"))
    against = make_labels(tmp_path / "b", images, theirs)
    figures = run(images, labels, tmp_path / "out", "--against", against)
    answers = [p.argmax(1) for p in (mine, mirrored, theirs)]
    assert figures["opinions"] == 3
    assert figures["top1"] == pytest.approx(np.mean(answers[0] == images.truth))
    assert figures["doubted_classes"] is None
    assert figures["agreement"] == pytest.approx(np.mean([answers[0] == other for other in answers[1:]]))
    assert files_in(tmp_path / "out") == [
        "class_balance.png",
        "confusion.png",
        "disagreement.png",
        "reliability.png",
        "suspicious.csv",
        "suspicious.png",
    ]
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    with open(tmp_path / "out" / "suspicious.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    trust = [float(row["trust"]) for row in rows]
    assert trust == sorted(trust) and len(rows) == 40
    assert sorted(row["name"] for row in rows) == sorted(images.names)
    assert list(rows[0])[-2:] == ["answer of a (flip)", "answer of b (identity)"]


@pytest.mark.slow
def test_the_command_without_truth_or_second_opinion(tmp_path, images):
    p = distributions(classes=7)  # Not the classes of the truth.
    figures = run(images, make_labels(tmp_path / "a", images, p), tmp_path / "out")
    assert [figures[name] for name in ("top1", "agreement", "temperature", "calibration_error")] == [None] * 4
    assert figures["mean_trust"] == pytest.approx(p.max(1).mean(), rel=1e-3)
    assert files_in(tmp_path / "out") == ["class_balance.png", "suspicious.csv", "suspicious.png"]


@pytest.mark.slow
def test_the_temperature_makes_the_confidence_the_agreement(tmp_path, images):
    """Without truth, an overconfident teacher is brought down to what a second opinion bears out."""
    p = distributions(classes=7)
    sharp = p**4 / (p**4).sum(1, keepdims=True)
    rng = np.random.default_rng(0)
    drawn = np.eye(7)[[rng.choice(7, p=row) for row in p]] * 0.9 + 0.1 / 7
    labels, against = make_labels(tmp_path / "a", images, sharp), make_labels(tmp_path / "b", images, drawn)
    figures = run(images, labels, tmp_path / "out", "--against", against)
    assert figures["temperature"] > 2
    assert figures["calibration_error_at_temperature"] < figures["calibration_error"] / 2


@pytest.mark.slow
@pytest.mark.long
def test_the_temperature_follows_other_teachers_rather_than_views(tmp_path, images):
    p, theirs = distributions(classes=7), distributions(classes=7, seed=1)
    labels = make_labels(tmp_path / "a", images, p, p, names=("identity", "flip"))
    own = run(images, labels, tmp_path / "own")["temperature"]
    against = make_labels(tmp_path / "b", images, theirs)
    found = run(images, labels, tmp_path / "out", "--against", against)["temperature"]
    assert own < 0.1 < found
    assert found == fit_temperature(opinion_of(p), [theirs.argmax(1)])


def test_labels_over_other_classes_are_refused(tmp_path, images):
    labels = make_labels(tmp_path / "a", images, distributions())
    against = make_labels(tmp_path / "b", images, distributions(classes=7))
    with pytest.raises(UserError, match=r"--against .*b counts 7 classes, --labels .*a 12, or in another order"):
        run(images, labels, tmp_path / "out", "--against", against)


@pytest.mark.extras
def test_planted_errors_stand_first_among_doubted_classes(tmp_path, images):
    classes, rng = 12, np.random.default_rng(0)
    p = 0.4 * np.eye(classes)[images.truth] + 0.6 * rng.dirichlet(np.ones(classes), 40)
    swapped = [int(np.flatnonzero(images.truth == each)[0]) for each in np.unique(images.truth)[:3]]
    p[swapped] = p[np.roll(swapped, 1)]
    labels = make_labels(tmp_path / "a", images, p)
    assert run(images, labels, tmp_path / "out")["doubted_classes"] >= 2
    with open(tmp_path / "out" / "doubted.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["index"]) for row in rows[:6]} >= set(swapped)
    assert [row["name"] for row in rows] == [images.names[int(row["index"])] for row in rows] and len(rows) == 40
    assert (tmp_path / "out" / "doubted.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.extras
def test_of_twenty_images_in_a_wrong_folder_most_stand_first(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "cache"))
    planted = set(np.random.default_rng(0).choice(400, 20, replace=False).tolist())
    photos = {}
    for number in range(400):
        pixels, kind = shapes.draw(0, "train", number)
        folder = shapes.NAMES[(kind + 5) % len(shapes.NAMES) if number in planted else kind]
        photos[f"{folder}/{number:03d}.png"] = encoded(pixels)
    write_folder(tmp_path / "photos", photos)
    label = ["--images", f"folder:{tmp_path / 'photos'}", "--teacher", "bundled", "--out", str(tmp_path / "labels")]
    label_imagenet64.run(command.parse(label_imagenet64.Config, [*label, "--quiet"], "label", ""))
    judge = ["--labels", str(tmp_path / "labels"), "--images", f"folder:{tmp_path / 'photos'}"]
    judge += ["--out", str(tmp_path / "out"), "--quiet"]
    label_quality.run(command.parse(label_quality.Config, judge, "quality", ""))
    with open(tmp_path / "out" / "doubted.csv", newline="") as file:
        first = [int(pathlib.PurePath(row["name"]).stem) for row in csv.DictReader(file)][:40]
    assert len(planted.intersection(first)) >= 15
