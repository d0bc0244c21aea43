"""How the bundled teacher is made: a small network that learns shapes, and its SavedModel."""

import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfpipeline.images import shapes
from tfpipeline.system import Console

FILTERS = (16, 32, 64, 128)
BATCH_SIZE = 100


def draw_pictures(seed: int, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (count, 64, 64, 3), int32 (count,)): the first pictures of a split and their classes."""
    pictures, classes = zip(*(shapes.draw(seed, split, index) for index in range(count)), strict=True)
    return np.stack(pictures), np.array(classes, np.int32)


def build_network(classes: int) -> keras.Model:
    """A network from pixels in 0..1, (B, 64, 64, 3), to logits: four levels of two convolutions each."""
    inputs = keras.Input((shapes.SIZE, shapes.SIZE, 3))
    x = inputs
    for filters in FILTERS:
        for strides in (2, 1):
            x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="shapes")


def train(model: keras.Model, images: np.ndarray, truth: np.ndarray, epochs: int, seed: int, console: Console) -> None:
    """Adam over a cosine, with pictures turned and mirrored at random: a shape stays what it is.

    Args:
        model: of `build_network`.
        images: uint8 (N, 64, 64, 3).
        truth: int32 (N,).
        epochs: how many.
        seed: of the order of the pictures.
        console: where progress goes.
    """
    pictures, classes = tf.constant(images), tf.constant(truth)

    def batch(indices):
        pixels = tf.cast(tf.gather(pictures, indices), tf.float32) / 255.0
        pixels = tf.image.random_flip_up_down(tf.image.random_flip_left_right(pixels))
        transposed = tf.random.uniform((size, 1, 1, 1)) < 0.5
        return tf.where(transposed, tf.transpose(pixels, (0, 2, 1, 3)), pixels), tf.gather(classes, indices)

    size = min(BATCH_SIZE, len(images))
    order = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=seed)
    batches = order.batch(size, drop_remainder=True).map(batch).prefetch(2)
    steps = epochs * (len(images) // size)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=3e-3, warmup_steps=steps // 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    with console.bar("training", steps, "step") as advance:

        def tell(_batch, logs):
            advance(1, **{name: round(float(value), 3) for name, value in logs.items()})

        callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=tell)]
        model.fit(batches, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)


def write_teacher(model: keras.Model, directory: pathlib.Path) -> None:
    """Writes the SavedModel in the TF-Hub convention, callable on pixels in 0..1, and classes.txt beside it."""
    module = tf.Module()
    # The variables themselves: tracking the Keras layers would bring their metadata along.
    module.weights = [weight.value for weight in model.weights]
    signature = tf.TensorSpec((None, shapes.SIZE, shapes.SIZE, 3), tf.float32, name="inputs")
    module.__call__ = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])
    for part in ("variables", "assets"):
        shutil.rmtree(directory / part, ignore_errors=True)
    tf.saved_model.save(module, str(directory), signatures=module.__call__)
    (directory / "classes.txt").write_text("\n".join(shapes.NAMES) + "\n", encoding="utf-8")


def measure_teacher(directory: pathlib.Path, images: np.ndarray, truth: np.ndarray) -> float:
    """The top-1 of the SavedModel on pictures, uint8 (N, 64, 64, 3) and int32 (N,)."""
    teacher = tf.saved_model.load(str(directory))
    answers = np.argmax(teacher(tf.constant(images / np.float32(255))), axis=-1)
    return float(np.mean(answers == truth))
