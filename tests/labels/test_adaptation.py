"""The adaptation of answers to images: its formulas against loops, and worlds where it must help or leave alone."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from jobs.reports.labels import Judgment, write_adaptation
from labeling.labels import adaptation
from labeling.labels.adaptation import Adaptation, Softmax
from labeling.labels.opinions import opinions_of
from labeling.labels.spec import LabelSpec
from labeling.labels.store import check_may_write, create_labels
from tests.support.label_stores import SPEC
from tests.support.tiny_teachers import log_softmax
from tfpipeline.batches import Answers
from tfpipeline.system.errors import UserError

FOUND = Adaptation("auto", 7, (0.5, -1.25, 0.0, 2.0), (-0.1, -2.5, -3.0, -30.0), {"gain": 0.25}, ("no reason",))


def draw_world(seed, images, classes, distance, occurring=None, favored=0.0):
    """(answers, truth): classes are points among unit noise, and a teacher knows their true posterior.

    Args:
        seed: of the draw.
        images: N.
        classes: C.
        distance: of the classes from each other, in parts of the noise.
        occurring: how many of them occur; all by default.
        favored: the deviation of what the teacher says of every image, in nats.
    """
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((classes, 20))
    truth = rng.choice(rng.permutation(classes)[:occurring], images)
    seen = means[truth] + rng.standard_normal((images, 20))
    logits = seen @ means.T - 0.5 * (means**2).sum(1)
    return log_softmax(logits + favored * rng.standard_normal(classes)), truth


def top1(answers, truth):
    return np.mean(answers.argmax(1) == truth)


def maximize_by_loops(p, steps):
    """EM, image by image."""
    prior = [1 / p.shape[1]] * p.shape[1]
    for _ in range(steps):
        posteriors = []
        for row in p:
            joint = [weight * value for weight, value in zip(prior, row, strict=True)]
            posteriors.append([value / sum(joint) for value in joint])
        prior = [sum(column) / len(p) for column in zip(*posteriors, strict=True)]
    return np.array(prior)


def background_by_loops(log_p):
    """The background, class by class, with NumPy's own quantile."""
    levels = np.array([np.median(column) for column in log_p.T])
    for _ in range(adaptation.ROUNDS):
        p = np.exp(log_softmax(log_p - levels))
        joint = p * maximize_by_loops(p, 30)
        posterior = joint / joint.sum(1, keepdims=True)
        others = [log_p[posterior[:, c] <= 0.5, c] for c in range(log_p.shape[1])]
        levels = np.array([np.quantile(each, 0.97) if len(each) else levels[c] for c, each in enumerate(others)])
    return levels


def test_expectation_maximization_equals_loops():
    answers, _ = draw_world(0, 23, 5, 0.3)
    p = np.exp(answers)
    for steps in (1, 2, 40):
        found = adaptation.expectation_maximization(Softmax(answers), steps)
        np.testing.assert_allclose(found, maximize_by_loops(p, steps), rtol=1e-12)
    weights = (np.arange(23) % 3 > 0).astype(float)
    found = adaptation.expectation_maximization(Softmax(answers), 40, weights)
    np.testing.assert_allclose(found, maximize_by_loops(p[weights > 0], 40), rtol=1e-12)


def test_the_likelihood_falls_in_no_step_and_ends_where_the_mean_posterior_is_the_prior():
    answers, _ = draw_world(1, 300, 7, 0.4, occurring=3)
    p, shares = np.exp(answers), Softmax(answers)
    likelihoods = [
        np.log(p @ adaptation.expectation_maximization(shares, steps)).mean()
        for steps in (0, 1, 2, 3, 5, 10, 100, 1000)
    ]
    assert (np.diff(likelihoods) >= -1e-12).all()
    prior = adaptation.expectation_maximization(shares, 3000)
    posterior = p * prior / (p @ prior)[:, None]
    np.testing.assert_allclose(posterior.mean(0), prior, atol=1e-5)
    # Concave, so that at the only maximum no class would be better given more: d/dpi_c is 1 where it occurs, else less.
    slope = (p / (p @ prior)[:, None]).mean(0)
    assert slope.max() < 1 + 1e-3
    np.testing.assert_allclose(slope[prior > 0.05], 1, atol=1e-3)


def test_of_two_classes_that_are_told_for_sure_the_prior_is_their_share():
    answers = np.array([[0.0, -np.inf]] * 3 + [[-np.inf, 0.0]] * 5)
    np.testing.assert_allclose(adaptation.expectation_maximization(Softmax(answers), 1), [3 / 8, 5 / 8], rtol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_the_background_equals_loops(seed):
    answers, _ = draw_world(seed, 41, 6, 0.4, favored=1.0)
    np.testing.assert_allclose(adaptation.estimate_background(answers), background_by_loops(answers), rtol=1e-9)


@pytest.mark.parametrize("method", ["background", "prior"])
def test_fitting_takes_a_fraction_of_the_memory_of_the_answers_in_whatever_blocks(monkeypatch, method):
    answers, subset = draw_world(4, 2000, 400, 0.6, 40)[0].astype(np.float32), tuple(range(0, 400, 2))
    tracemalloc.start()
    found = adaptation.fit(answers, method, subset)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < answers.nbytes
    monkeypatch.setattr(adaptation, "_NUMBERS", 40_000)
    again = adaptation.fit(answers, method, subset)
    np.testing.assert_allclose(again.background, found.background, atol=1e-4)
    np.testing.assert_allclose(np.exp(again.log_prior), np.exp(found.log_prior), atol=1e-5)


def test_a_class_of_which_all_images_are_keeps_its_level():
    answers = log_softmax(np.tile([9.0, 0.0, 0.0], (5, 1)))
    assert np.isfinite(adaptation.estimate_background(answers)).all()


def test_what_is_said_of_every_image_is_found_up_to_a_constant():
    answers, _ = draw_world(2, 1000, 50, 0.5)
    said = np.random.default_rng(5).standard_normal(50)
    moved = adaptation.estimate_background(log_softmax(answers + said)) - adaptation.estimate_background(answers)
    assert np.corrcoef(moved, said)[0, 1] > 0.9


def test_answers_change_by_the_formula():
    answers, _ = draw_world(3, 5, 4, 0.5)
    subset = (2, 0, 3)
    changed = dataclasses.replace(FOUND, log_prior=(-0.5, -2.0, -3.0)).apply(answers, subset)
    for row, got in zip(answers, changed, strict=True):
        values = [row[c] - FOUND.background[c] + prior for c, prior in zip(subset, (-0.5, -2.0, -3.0), strict=True)]
        total = np.log(sum(np.exp(value) for value in values))
        np.testing.assert_allclose(got, [value - total for value in values], rtol=1e-12)


def test_nothing_to_change_is_the_same_bits():
    answers = draw_world(3, 5, 4, 0.5)[0].astype(np.float32)
    assert Adaptation("auto", 5).apply(answers) is answers


@pytest.mark.parametrize(("occurring", "gain"), [(None, 0.15), (10, 0.08)])
def test_a_teacher_that_favors_classes_is_mended(occurring, gain):
    answers, truth = draw_world(4, 800, 120, 0.6, occurring, favored=2.0)
    found = adaptation.fit(answers, "auto")
    assert found.background and bool(found.log_prior) == bool(occurring)
    assert top1(found.apply(answers), truth) > top1(answers, truth) + gain


@pytest.mark.parametrize("images", [50, 250, 800])
@pytest.mark.parametrize("distance", [0.4, 0.8, 1.6])
@pytest.mark.parametrize("occurring", [None, 24])
def test_a_teacher_that_knows_all_is_left_alone(images, distance, occurring):
    answers, truth = draw_world(6, images, 120, distance, occurring)
    found = adaptation.fit(answers, "auto")
    assert found.refused[0].startswith("the background stays")
    assert top1(found.apply(answers), truth) >= top1(answers, truth) - 0.005


def test_the_background_by_force_does_harm_there():
    answers, truth = draw_world(6, 800, 120, 1.0)
    found = adaptation.fit(answers, "background")
    assert found.background and not found.log_prior
    assert top1(found.apply(answers), truth) < top1(answers, truth) - 0.05


def test_the_prior_alone_finds_which_classes_occur():
    answers, truth = draw_world(7, 800, 120, 0.6, occurring=30)
    found = adaptation.fit(answers, "prior")
    assert found.log_prior and not found.background
    assert top1(found.apply(answers), truth) > top1(answers, truth) + 0.1
    told = adaptation.describe(found, [str(c) for c in range(120)])
    assert 30 <= told["classes_found"] <= 60
    assert set(map(int, told["most_found"])) <= set(truth.tolist())


def test_the_background_is_that_of_all_classes_whatever_is_answered_over():
    answers, _ = draw_world(8, 600, 150, 0.25, favored=2.0)
    subset = tuple(range(0, 150, 2))
    part = adaptation.fit(answers, "background", subset)
    assert part.background == adaptation.fit(answers, "background").background
    assert part.apply(answers, subset).shape == (600, 75)


@pytest.mark.parametrize(
    ("images", "classes", "reason"),
    [(49, 120, "49 images are too few; 50 would do"), (60, 99, "teachers of 99 classes lose by it; 100 would do")],
)
def test_too_few_images_or_classes_are_left_alone(images, classes, reason):
    found = adaptation.fit(draw_world(9, images, classes, 0.3)[0], "auto")
    assert (found.background, found.log_prior, found.refused) == ((), (), (reason,))


def test_a_spec_keeps_the_adaptation(tmp_path):
    spec = dataclasses.replace(SPEC, adaptation=FOUND)
    assert LabelSpec.from_json(spec.to_json()) == spec
    assert "adaptation" not in json.loads(SPEC.to_json())
    create_labels(tmp_path / "labels", spec)
    other = dataclasses.replace(spec, adaptation=dataclasses.replace(FOUND, background=(0.5, -1.25, 0.0, 2.5)))
    for wanted, text in ((SPEC, "none"), (other, r"auto \(")):
        with pytest.raises(UserError, match=rf"adaptation: auto \([0-9a-f]{{8}}\) there, {text}"):
            check_may_write(tmp_path / "labels", wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"background": [1.0]}, "adaptation has 1 numbers of background, not 4"),
        ({"log_prior": [1.0] * 5}, "adaptation has 5 numbers of log_prior, not 4"),
        ({"log_prior": ["a"] * 4}, "adaptation is "),
        ({"background": None}, "adaptation is "),
        ({"method": "all"}, "adaptation is "),
        ({"images": 0}, "adaptation is "),
        ({"more": 1}, "adaptation is "),
    ],
)
def test_a_hostile_adaptation_is_named(change, said):
    fields = json.loads(dataclasses.replace(SPEC, adaptation=FOUND).to_json())
    fields["adaptation"] |= change
    with pytest.raises(ValueError, match=said):
        LabelSpec.from_json(json.dumps(fields))


def test_own_classes_are_as_probable_as_their_members_together():
    answers, _ = draw_world(3, 5, 6, 0.5)
    groups = ((0, 3), (5,))
    p = np.exp(answers)
    expected = np.stack([p[:, 0] + p[:, 3], p[:, 5]], axis=1)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(adaptation.merge_classes(answers, groups)), expected, rtol=1e-12)
    assert adaptation.merge_classes(answers, ()) is answers


def test_the_report_shows_what_was_favored_and_found(tmp_path):
    label = opinions_of(Answers(*(np.zeros((2, 1, 1), np.float16),) * 2, np.zeros((2, 1), np.float16)), 4, ["t"])[0]
    judgment = Judgment(None, label, [], [], None, list("abcd"), dataclasses.replace(SPEC, adaptation=FOUND))
    told = write_adaptation(judgment, tmp_path)
    assert list(told["favored"]) == ["d", "a", "c", "b"]
    assert told["favored"]["d"] == 1.75  # above the median, 0.25
    assert next(iter(told["most_found"])) == "a" and told["refused"] == ["no reason"]
    with Image.open(tmp_path / "adaptation.png") as picture:
        assert picture.width > 500
    assert write_adaptation(dataclasses.replace(judgment, spec=SPEC), tmp_path / "none") is None
