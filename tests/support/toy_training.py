"""A small training with all kinds of state: dropout, seeds, batch statistics, moving averages, callbacks."""

import dataclasses
import itertools
import os
import pathlib
import signal
import threading

import keras
import numpy as np
import tensorflow as tf

from jobs import command
from tfpipeline.batches.augmentation import parse_augmentation
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.training import SaveEvery, Saver, run_directory
from tfpipeline.training.trainer import Task, Trainer


@dataclasses.dataclass(frozen=True)
class NoFlags:
    """A command without flags."""


COUNT, BATCH, CLASSES = 60, 6, 3
STEPS_PER_EPOCH = COUNT // BATCH
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 5, 3), np.uint8)
TRUTH = (IMAGES.mean((1, 2, 3)).argsort().argsort() * CLASSES // COUNT).astype(np.int32)


def model():
    """Freshly seeded: equal weights at every call."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 5, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(1e-3)),
        ]
    )


def cross_entropy(logits, batch):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["truth"], logits)


def hits(logits, batch):
    return tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == batch["truth"], tf.float32)


def task(epochs=3, learning_rate=0.01, loss=cross_entropy, callbacks=(), **options):
    network = model()

    def evaluate():
        right = network(IMAGES, training=False).numpy().argmax(-1) == TRUTH
        return {"validation_top1": float(right.mean())}

    return Task(
        model=network,
        optimizer=keras.optimizers.AdamW(learning_rate, use_ema=True, ema_momentum=0.9),
        loss=loss,
        batches_from=TrainingBatches(
            IMAGES, {"truth": TRUTH}, BATCH, 5, parse_augmentation("flip,translate:1", COUNT)
        ).from_step,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=epochs,
        measures={"training_top1": hits},
        evaluate=evaluate,
        callbacks=callbacks,
        experiment={"learning_rate": learning_rate},
        **options,
    )


def saver(directory, save_steps=1):
    """Saves after so many steps."""
    return Saver(pathlib.Path(directory) / run_directory.CHECKPOINTS, SaveEvery(steps=save_steps))


def trainer(directory, save_steps=1, most_steps_per_call=4, **options):
    """A trainer of `task(**options)`."""
    return Trainer(task(**options), pathlib.Path(directory), saver(directory, save_steps), most_steps_per_call)


def train(directory, save_steps=1, resume=True, most_steps_per_call=4, **options):
    """Trains to the end or to a signal; the trainer."""
    directory = pathlib.Path(directory)
    with run_directory.lock_run(directory):
        snapshot = run_directory.newest_snapshot(directory, resume, print)
        ready = trainer(directory, save_steps, most_steps_per_call, **options)
        ready.run(snapshot)
        ready.finish()
    return ready


def logging_loss(path):
    """The loss, which also writes a line with the images of each step."""

    def write(index):
        with open(path, "a") as file:
            file.write(" ".join(map(str, index)) + "\n")
        return np.float32(0)

    def loss(logits, batch):
        nothing = tf.numpy_function(write, [batch["index"]], tf.float32)
        return cross_entropy(logits, batch) + nothing

    return loss


def train_in_process(directory, log, epochs, save_steps):
    """What a process of its own runs: trains on and leaves the hash of the weights in the file `weights`."""
    tf.config.experimental.enable_op_determinism()
    trained = train(directory, save_steps, epochs=epochs, loss=logging_loss(log), most_steps_per_call=1)
    (pathlib.Path(directory) / "weights").write_text(trained.weights_sha256())


def train_and_be_stopped_twice(directory, log, epochs, step):
    """A command that gets SIGTERM within a step, and SIGTERM and SIGINT before the rename of the save that follows."""
    steps, logged, fsync = itertools.count(1), logging_loss(log), os.fsync
    within_step = threading.Event()

    def count():
        if next(steps) == step:
            within_step.set()
            os.kill(os.getpid(), signal.SIGTERM)
        return np.float32(0)

    def interrupted_fsync(descriptor):
        fsync(descriptor)
        if within_step.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            print("signals while saving")

    def loss(logits, batch):
        return logged(logits, batch) + tf.numpy_function(count, [], tf.float32)

    def run(config):
        tf.config.experimental.enable_op_determinism()
        train(directory, 1000, epochs=epochs, loss=loss, most_steps_per_call=1)

    os.fsync = interrupted_fsync
    command.main(NoFlags, run, "", argv=[])


def hold_lock(directory):
    """Holds the lock of a run directory until it is killed."""
    with run_directory.lock_run(pathlib.Path(directory)):
        (pathlib.Path(directory) / "held").touch()
        signal.pause()


def train_as_command(directory, log, epochs, save_steps):
    """`train_in_process` with the exit codes of a command."""
    command.main(NoFlags, lambda config: train_in_process(directory, log, epochs, save_steps), "", argv=[])
