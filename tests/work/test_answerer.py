"""The answers are the largest ones, in order, however many threads ask, whatever the size of the batches."""

import threading

import numpy as np
import pytest

from labeling.enlarging.expert import Expert, most_probable
from labeling.labels.span import Span
from labeling.teachers.teacher import load_teacher
from labeling.work import labeler
from labeling.work.answerer import Answerer
from labeling.work.runtimes import Way
from tests.support.tiny_teachers import log_softmax, save_hub_module
from tfpipeline.batches import Answers
from tfpipeline.images import parse_joined


@pytest.mark.parametrize("k", [1, 3, 11])
def test_the_largest_are_those_of_a_stable_sort(k):
    rng = np.random.default_rng(0)
    log_p = log_softmax(rng.integers(0, 40, (5, 2, 11)) / 4).astype(np.float32)
    log_p[0] = np.log(1 / 11)  # Equals come in the order of the classes.
    found = most_probable(log_p, k)
    classes, values, log_tail = found.top_k, found.log_probs, found.log_tail
    order = np.argsort(-log_p, axis=-1, kind="stable")
    np.testing.assert_array_equal(values, np.take_along_axis(log_p, order[..., :k], -1))
    np.testing.assert_array_equal(np.take_along_axis(log_p, classes, -1), values)
    assert (np.diff(classes)[np.diff(values) == 0] > 0).all()
    with np.errstate(divide="ignore"):
        expected = np.log(np.exp(np.take_along_axis(log_p, order[..., k:], -1).astype(np.float64)).sum(-1))
    np.testing.assert_allclose(log_tail, expected, rtol=1e-5)


def answers_of(batch):
    """Answers that tell the first pixel of each image."""
    found = batch[:, :1, :1, 0].astype(np.uint16)
    return Answers(found, np.zeros(found.shape, np.float16), np.full(found.shape[:2], -np.inf, np.float16))


def test_threads_answer_at_the_same_time_and_the_order_stays():
    images = np.arange(14, dtype=np.uint8)[:, None, None, None]
    both, second_done = threading.Barrier(2, timeout=60), threading.Event()

    def answer(batch):
        if batch[0] < 6:  # The first two batches: the second one is done before the first one.
            both.wait()
            if batch[0] == 0:
                assert second_done.wait(60)
            second_done.set()
        return answers_of(batch)

    found = list(labeler.answer_batches(images, [Span(0, 6), Span(6, 13)], answer, labeler.Calls(3, parallel=2)))
    assert [span for span, _ in found] == [(0, 6)] * 2 + [(6, 13)] * 3
    assert [answers.top_k.ravel().tolist() for _, answers in found] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
        [12],
    ]


def test_the_failure_of_a_thread_is_raised():
    def answer(batch):
        raise ArithmeticError(f"batch of {len(batch)}")

    with pytest.raises(ArithmeticError, match="batch of 3"):
        list(labeler.answer_batches(np.zeros((9, 1, 1, 3), np.uint8), [Span(0, 9)], answer, labeler.Calls(3, 2)))


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    teacher = load_teacher(str(save_hub_module(tmp_path_factory.mktemp("hub") / "tiny", classes=9)))
    views = [parse_joined(name) for name in ("identity", "flip")]
    return Answerer([Expert(teacher, "bicubic")], views, 4, (10, 12, 3), Way("tensorflow", 5))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 10, 12, 3), dtype=np.uint8)


def test_the_batch_size_changes_rounding_at_most(answerer, images):
    expected = answerer.log_probs(images)
    assert expected.shape == (5, 2, 9)
    for size in (1, 2, 8):
        other = answerer.by(Way("tensorflow", size))
        np.testing.assert_allclose(other.log_probs(images), expected, atol=1e-5)
        assert other.images_per_call == 8
    assert answerer.by(Way("tensorflow", 5)) is answerer


def test_bfloat16_is_of_its_answerer_alone(answerer, images):
    expected = answerer.log_probs(images)
    rounded = answerer.by(Way("tensorflow", 5, "bfloat16"))
    np.testing.assert_allclose(rounded.log_probs(images), expected, atol=0.1)
    np.testing.assert_array_equal(answerer.log_probs(images), expected)
    assert (answerer.way.precision, rounded.way.precision) == ("float32", "bfloat16")
