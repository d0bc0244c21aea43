"""Pretrained classifiers that a test makes in a moment, and what they answer, computed with NumPy."""

import numpy as np
import tensorflow as tf

from tfpipeline.images import shapes


def pictures(count=8, size=64):
    """Pictures of shapes, uint8 (count, size, size, 3)."""
    drawn = np.stack([shapes.draw(5, "train", index)[0] for index in range(count)])
    return tf.image.resize(drawn, (size, size), "area").numpy().astype(np.uint8)


def weights(classes, seed=0):
    """(kernel (3, classes), bias (classes,)) of a classifier of mean colors."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, classes)).astype(np.float32), rng.normal(size=classes).astype(np.float32)


def log_softmax(logits):
    """log softmax of each row, in float64."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def mean_color_logits(images, classes, seed=0):
    """The logits of that classifier for images that are already in its range."""
    kernel, bias = weights(classes, seed)
    return np.mean(images, axis=(1, 2), dtype=np.float64) @ kernel + bias


class MeanColors(tf.Module):
    """The classifier as a TF-Hub module with a `training` switch."""

    def __init__(self, classes, size=16, softmax=False, seed=0):
        self.kernel, self.bias = map(tf.Variable, weights(classes, seed))
        self.softmax = softmax
        self.signature = tf.TensorSpec((None, size, size, 3), tf.float32, name="inputs")

    @tf.function
    def __call__(self, inputs, training=False):
        logits = tf.reduce_mean(inputs, (1, 2)) @ self.kernel + self.bias
        if training:
            logits = -logits
        return tf.nn.softmax(logits) if self.softmax else logits


def save_hub_module(directory, classes, **options):
    """Saves the classifier the way TF-Hub's modules are: callable, with and without training, and a signature."""
    module = MeanColors(classes, **options)
    for training in (True, False):
        module.__call__.get_concrete_function(module.signature, training=training)
    tf.saved_model.save(module, str(directory), signatures=module.__call__.get_concrete_function(module.signature))
    return directory
