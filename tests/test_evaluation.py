"""The figures of an evaluation, against counting by hand."""

import keras
import numpy as np
import pytest

from tfpipeline import evaluation


class Reads(keras.Layer):
    """Logits read off an image's first row: class c has the value of the red channel at column c."""

    def call(self, images):
        return images[:, 0, :, 0]


def test_answers_keep_every_image_in_order():
    rng = np.random.default_rng(0)
    images = rng.permuted(np.tile(np.arange(0, 70, 10, dtype=np.uint8), (11, 1)), axis=1)[:, None, :, None]
    images = np.repeat(images, 3, axis=3)
    inputs = keras.Input((1, 7, 3))
    answers = evaluation.answer_images(keras.Model(inputs, Reads()(inputs)), images, batch_size=4)
    logits = images[:, 0, :, 0].astype(float)
    np.testing.assert_array_equal(answers.top, np.argsort(-logits, axis=1)[:, :5])
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(answers.probability, 1 / softmax.sum(1), rtol=1e-5)


def test_a_flip_averages_the_log_probabilities_of_both_sides():
    images = np.zeros((1, 1, 3, 3), np.uint8)
    images[0, 0, :, 0] = [4, 0, 2]
    inputs = keras.Input((1, 3, 3))
    answers = evaluation.answer_images(keras.Model(inputs, Reads()(inputs)), images, flip=True)
    mean = np.array([3.0, 0.0, 3.0])
    np.testing.assert_allclose(answers.probability, [np.exp(3) / np.exp(mean).sum()], rtol=1e-5)


def test_figures_count_what_a_person_would():
    top = np.array([[0, 1], [1, 0], [2, 0], [0, 2]])
    answers = evaluation.Answers(top, np.ones(4))
    truth, teacher = np.array([0, 0, 2, -1]), np.array([0, 1, 1, 2])
    assert evaluation.figures(answers, truth, teacher) == pytest.approx(
        {
            "top1": 2 / 3,
            "top5": 3 / 3,
            "agreement_top1": 2 / 4,
            "agreement_top5": 3 / 4,
            "teacher_top1": 1 / 3,
            "relative_top1": 2.0,
        }
    )


def test_what_is_not_known_is_none():
    answers = evaluation.Answers(np.array([[0, 1]]), np.ones(1))
    assert set(evaluation.figures(answers, np.array([-1])).values()) == {None}
