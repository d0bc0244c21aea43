"""The figures of an evaluation, against counting by hand."""

import keras
import numpy as np
import pytest

from models.losses import distillation
from tfpipeline.batches import Answers
from tfpipeline.training.evaluation import Predictions, Reference, measure, predict_images


class Reads(keras.Layer):
    """Logits read off an image's first row: class c has the value of the red channel at column c."""

    def call(self, images):
        return images[:, 0, :, 0]


def test_answers_keep_every_image_in_order():
    rng = np.random.default_rng(0)
    images = rng.permuted(np.tile(np.arange(0, 70, 10, dtype=np.uint8), (11, 1)), axis=1)[:, None, :, None]
    images = np.repeat(images, 3, axis=3)
    inputs = keras.Input((1, 7, 3))
    answers = predict_images(keras.Model(inputs, Reads()(inputs)), images, batch_size=4)
    logits = images[:, 0, :, 0].astype(float)
    np.testing.assert_array_equal(answers.top, np.argsort(-logits, axis=1)[:, :5])
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    np.testing.assert_allclose(answers.probabilities, -np.sort(-softmax, axis=1)[:, :5], rtol=1e-5)
    np.testing.assert_array_equal(answers.probability, answers.probabilities[:, 0])


def test_a_flip_averages_the_log_probabilities_of_both_sides():
    images = np.zeros((1, 1, 3, 3), np.uint8)
    images[0, 0, :, 0] = [4, 0, 2]
    inputs = keras.Input((1, 3, 3))
    answers = predict_images(keras.Model(inputs, Reads()(inputs)), images, flip=True)
    mean = np.array([3.0, 0.0, 3.0])
    np.testing.assert_allclose(answers.probability, [np.exp(3) / np.exp(mean).sum()], rtol=1e-5)


def test_the_graph_is_built_once_for_a_model_and_follows_its_weights():
    class Adds(keras.Layer):
        traced = 0

        def build(self, _):
            self.bias = self.add_weight(shape=(3,), initializer="zeros")

        def call(self, images):
            Adds.traced += 1
            return images[:, 0, :, 0] + self.bias

    inputs, layer = keras.Input((1, 3, 3)), Adds()
    model, images = keras.Model(inputs, layer(inputs)), np.zeros((2, 1, 3, 3), np.uint8)
    predict_images(model, images)
    traced = Adds.traced
    layer.bias.assign([0.0, 5.0, 0.0])
    assert predict_images(model, images).top[:, 0].tolist() == [1, 1]
    assert Adds.traced == traced


def test_figures_count_what_a_person_would():
    top = np.array([[0, 1], [1, 0], [2, 0], [0, 2]])
    answers = Predictions(top, np.ones((4, 1)))
    truth, teacher = np.array([0, 0, 2, -1]), np.array([0, 1, 1, 2])
    assert measure(answers, truth, teacher) == pytest.approx(
        {
            "top1": 2 / 3,
            "top5": 3 / 3,
            "cross_entropy_nats": None,
            "agreement_top1": 2 / 4,
            "agreement_top5": 3 / 4,
            "kl_nats": None,
            "teacher_top1": 1 / 3,
            "relative_top1": 2.0,
        }
    )


@pytest.mark.parametrize("k", [2, 7])
def test_the_divergence_is_that_from_the_stored_answers_with_their_tail_spread_evenly(k):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 5, (11, 1, 7, 3), np.uint8)
    q = np.exp(images[:, 0, :, 0].astype(float))
    q /= q.sum(1, keepdims=True)
    p = -np.sort(-rng.dirichlet(np.ones(7), 11), axis=1)
    tail = p[:, k:].sum(1)
    p[:, k:] = tail[:, None] / max(7 - k, 1)
    with np.errstate(divide="ignore"):
        log_tail = np.log(tail)
    classes = np.array([rng.permutation(7) for _ in range(11)])
    teacher = Answers(classes[:, :k], np.log(p[:, :k]), log_tail).for_loss()
    inputs = keras.Input((1, 7, 3))
    model = keras.Model(inputs, Reads()(inputs))
    answers = predict_images(model, images, batch_size=4, reference=Reference(None, teacher, distillation))
    expected = (p * (np.log(p) - np.log(np.take_along_axis(q, classes, 1)))).sum(1)
    np.testing.assert_allclose(answers.divergence, expected, rtol=1e-4, atol=1e-6)
    assert measure(answers, np.full(11, -1))["kl_nats"] == pytest.approx(expected.mean(), rel=1e-5)


def test_the_loss_is_minus_the_log_of_the_probability_of_the_truth_where_it_is_known():
    rng = np.random.default_rng(2)
    images, truth = rng.integers(0, 5, (11, 1, 7, 3), np.uint8), rng.integers(-1, 7, 11).astype(np.int32)
    truth[3] = -1
    inputs = keras.Input((1, 7, 3))
    answers = predict_images(keras.Model(inputs, Reads()(inputs)), images, batch_size=4, reference=Reference(truth))
    q = np.exp(images[:, 0, :, 0].astype(float))
    expected = -np.log((q / q.sum(1, keepdims=True))[np.arange(11), truth])
    known = truth >= 0
    np.testing.assert_allclose(answers.loss[known], expected[known], rtol=1e-5)
    assert np.isnan(answers.loss[~known]).all()
    assert measure(answers, truth)["cross_entropy_nats"] == pytest.approx(expected[known].mean(), rel=1e-5)


def test_what_is_not_known_is_none():
    answers = Predictions(np.array([[0, 1]]), np.ones((1, 2)))
    assert set(measure(answers, np.array([-1])).values()) == {None}
