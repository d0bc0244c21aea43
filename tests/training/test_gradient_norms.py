"""The norms of the gradients by the kernels, measured without a trace in what is trained."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy_training as toy
from tfpipeline.training.gradient_norms import GradientNorms


def batch():
    return {name: array.numpy() for name, array in next(iter(toy.task().batches_from(0))).items()}


@pytest.mark.slow
def test_they_are_those_of_the_tape_and_change_nothing(tmp_path):
    callback = GradientNorms(tmp_path / "gradients.csv", toy.cross_entropy, batch())
    trained = toy.train(tmp_path / "measured", epochs=1, callbacks=[callback])
    assert trained.weights_sha256() == toy.train(tmp_path / "plain", epochs=1).weights_sha256()
    with open(tmp_path / "gradients.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    model = toy.task().model
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(toy.cross_entropy(model(batch()["images"], training=True), batch()))
    expected = [float(np.linalg.norm(part)) for part in tape.gradient(loss, [kernel.value for kernel in kernels])]
    assert [float(row["before"]) for row in rows] == pytest.approx(expected, rel=1e-4)
    assert all(float(row["after"]) > 0 and row["after"] != row["before"] for row in rows)
