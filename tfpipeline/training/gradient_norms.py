"""How much of the loss's gradient reaches each layer, before the first step and after the last."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfpipeline.system import write_csv


class GradientNorms(keras.callbacks.Callback):
    """Writes a csv with a row for each kernel, in the order of the layers: the norm of the gradient of the loss by it.

    The batch is the same both times. Random states and moving statistics stay as they are.

    Args:
        path: of the csv.
        loss: (logits, batch) -> the loss of each sample, (B,).
        batch: arrays by name, with "images".
    """

    def __init__(self, path: pathlib.Path, loss: Callable, batch: dict[str, np.ndarray]):
        super().__init__()
        self._path, self._loss = path, loss
        self._batch = {name: tf.constant(array) for name, array in batch.items()}
        self._before: dict[str, float] = {}

    def on_train_begin(self, logs=None):
        """Measures with the first weights, whichever step the training goes on from."""
        self._before = self._norms()

    def on_train_end(self, logs=None):
        """Measures with the last weights, and writes."""
        after = self._norms()
        rows = [[name, norm, after[name]] for name, norm in self._before.items()]
        write_csv(self._path, ["kernel", "before", "after"], rows)

    def _norms(self):
        kept = [(variable, variable.numpy()) for variable in self.model.non_trainable_variables]
        kernels = [variable for variable in self.model.trainable_variables if variable.name == "kernel"]
        with tf.GradientTape() as tape:
            logits = self.model(self._batch["images"], training=True)
            loss = tf.reduce_mean(self._loss(logits, self._batch))
        gradients = tape.gradient(loss, [kernel.value for kernel in kernels])
        for variable, value in kept:
            variable.assign(value)
        return {
            f"{number} {kernel.path.split('/')[-2]}": float(tf.norm(tf.cast(gradient, tf.float32)))
            for number, (kernel, gradient) in enumerate(zip(kernels, gradients, strict=True), 1)
        }
