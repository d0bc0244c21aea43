"""Keras's own `model.fit` on our networks and batches, with the truth or with a teacher's answers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import networks
from models.losses import distillation
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches

COUNT, BATCH, CLASSES, STEPS = 24, 8, 5, 4
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
PROBS = -np.sort(-RANDOM.dirichlet(np.ones(CLASSES), COUNT).astype(np.float32))
ANSWERS = {
    "top_k": np.stack([RANDOM.permutation(CLASSES) for _ in range(COUNT)])[:, :3].astype(np.int32),
    "log_probs": np.log(PROBS[:, :3]),
    "log_tail": np.log(PROBS[:, 3:].sum(1)),
}
TRUTH = {"truth": ANSWERS["top_k"][:, 0]}


def network():
    keras.utils.set_random_seed(0)
    options = {"filters_per_layer": (4,), "hidden_dims": (6,), "batch_norm": True}
    return networks.build("conv_classifier", IMAGES.shape[1:], CLASSES, **options)


def training(targets):
    return TrainingBatches(IMAGES, targets, BATCH, 0, parse_augmentation("flip,translate:1", COUNT)).from_step(0)


class Student(keras.Model):
    """A network whose targets are a teacher's answers; Keras's losses take no dicts beside a single output."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(distillation(y_pred, y))


def fitted(targets):
    """The network after so many steps of fit."""
    model = network()
    if targets is TRUTH:
        model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        pairs = training(targets).map(lambda batch: (batch["images"], batch["truth"]))
    else:
        model = Student(model.inputs, model.outputs)
        model.compile(keras.optimizers.SGD(0.01))
        pairs = training(targets).map(lambda batch: (batch["images"], {name: batch[name] for name in targets}))
    model.fit(pairs, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("targets", [TRUTH, ANSWERS], ids=["truth", "answers"])
def test_fit_takes_the_steps_of_a_plain_loop(targets):
    def loss(logits, batch):
        if targets is TRUTH:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["truth"], logits)
        return distillation(logits, batch)

    model = network()
    before = [variable.numpy() for variable in model.trainable_variables]
    for batch in training(targets).take(STEPS):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(model(batch["images"], training=True), batch))
        gradients = tape.gradient(value, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign(variable - 0.01 * gradient)
    assert any(np.abs(v.numpy() - old).max() > 1e-3 for v, old in zip(model.trainable_variables, before, strict=True))
    for ours, fits in zip(model.variables, fitted(targets).variables, strict=True):
        np.testing.assert_allclose(fits.numpy(), ours.numpy(), rtol=1e-4, atol=1e-5)
