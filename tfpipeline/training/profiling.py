"""Where the time of a training step goes, for TensorBoard's or xprof's trace viewer."""

import pathlib

import keras
import tensorflow as tf


class ProfileSteps(keras.callbacks.Callback):
    """Writes a profile of some steps of the first epoch that this process trains.

    Args:
        directory: where the profile goes.
        first: the first step that counts; those before it trace and warm up.
        last: the last one.
    """

    def __init__(self, directory: pathlib.Path, first: int = 10, last: int = 20):
        super().__init__()
        self._directory, self._first, self._last = directory, first, last
        self._steps, self._running = 0, False

    def on_train_batch_begin(self, batch, logs=None):
        """Starts at the first step that counts."""
        self._steps += 1
        if self._steps == self._first:
            tf.profiler.experimental.start(str(self._directory))
            self._running = True

    def on_train_batch_end(self, batch, logs=None):
        """Writes after the last one."""
        if self._steps == self._last:
            self._stop()

    def on_train_end(self, logs=None):
        """Writes what there is of a shorter training."""
        self._stop()

    def _stop(self):
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
