"""python -m jobs.train_bundled_teacher: makes the teacher that the repository brings along for the built-in shapes."""

import dataclasses
import pathlib
import shutil
import time

import numpy as np

from jobs import command
from jobs.command import flag
from tfpipeline.images import shapes
from tfpipeline.system import Console

EXAMPLE = "python -m jobs.train_bundled_teacher --out labeling/bundled"
# The pictures of another seed are none of those that `--images shapes` gives, in either split.
TRAINING_SEED = 1
FILTERS = (16, 32, 64, 128)
BATCH_SIZE = 100


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains the bundled teacher on shapes and writes its SavedModel, its classes and its figures."""

    out: str = flag("labeling/bundled", "directory of the SavedModel; the one that is there is replaced", metavar="DIR")
    images: int = flag(40_000, "pictures to train on", metavar="N")
    epochs: int = flag(8, "epochs of training")
    validation_images: int = flag(1_000, "held-out pictures, those of --images shapes --split valid", metavar="N")
    seed: int = flag(0, "of the initial weights and the order of the pictures")
    quiet: bool = flag(False, "no progress")


def run(config: Config) -> dict:
    """Trains, exports and measures what was exported."""
    import keras
    import tensorflow as tf

    start = time.monotonic()
    keras.utils.set_random_seed(config.seed)
    images, truth = pictures(TRAINING_SEED, "train", config.images)
    model = network(len(shapes.NAMES))
    train(model, images, truth, config, Console(config.quiet))
    directory = pathlib.Path(config.out)
    export(model, directory)
    teacher = tf.saved_model.load(str(directory))
    held_out, held_out_truth = pictures(0, "valid", config.validation_images)
    answers = np.argmax(teacher(tf.constant(held_out / np.float32(255))), axis=-1)
    figures = {
        "top1": float(np.mean(answers == held_out_truth)),
        "images": config.images,
        "epochs": config.epochs,
        "parameters": model.count_params(),
        "bytes": sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        "seconds": round(time.monotonic() - start, 1),
        "out": config.out,
    }
    (directory / "README.md").write_text(readme(config, figures), encoding="utf-8")
    return figures


def pictures(seed: int, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (count, 64, 64, 3), int32 (count,)): the first pictures of a split and their classes."""
    drawn = [shapes.draw(seed, split, index) for index in range(count)]
    return np.stack([pixels for pixels, _ in drawn]), np.array([truth for _, truth in drawn], np.int32)


def network(classes: int):
    """A keras.Model from pixels in 0..1, (B, 64, 64, 3), to logits: four levels of two convolutions each."""
    import keras
    from keras import layers

    inputs = keras.Input((shapes.SIZE, shapes.SIZE, 3))
    x = inputs
    for filters in FILTERS:
        for strides in (2, 1):
            x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="shapes")


def train(model, images, truth, config: Config, console) -> None:
    """Adam over a cosine, with pictures turned and mirrored at random: a shape stays what it is."""
    import keras
    import tensorflow as tf

    images, truth = tf.constant(images), tf.constant(truth)

    def batch(indices):
        pixels = tf.cast(tf.gather(images, indices), tf.float32) / 255.0
        pixels = tf.image.random_flip_up_down(tf.image.random_flip_left_right(pixels))
        transposed = tf.random.uniform((BATCH_SIZE, 1, 1, 1)) < 0.5
        return tf.where(transposed, tf.transpose(pixels, (0, 2, 1, 3)), pixels), tf.gather(truth, indices)

    steps_per_epoch = len(images) // BATCH_SIZE
    order = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=config.seed)
    batches = order.batch(BATCH_SIZE, drop_remainder=True).map(batch).prefetch(2)
    steps = config.epochs * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=3e-3, warmup_steps=steps // 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    with console.bar("training", steps, "step") as advance:
        tell = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _batch, logs: advance(1, **rounded(logs)))
        model.fit(batches, epochs=config.epochs, callbacks=[tell], shuffle=False, verbose=0)


def rounded(logs: dict) -> dict:
    """Keras's figures of a step, short enough for the progress line."""
    return {name: round(float(value), 3) for name, value in logs.items()}


def export(model, directory: pathlib.Path) -> None:
    """Writes the SavedModel in the TF-Hub convention, callable on pixels in 0..1, and classes.txt beside it."""
    import tensorflow as tf

    module = tf.Module()
    # The variables themselves: tracking the Keras layers would bring their metadata along.
    module.weights = [weight.value for weight in model.weights]
    signature = tf.TensorSpec((None, shapes.SIZE, shapes.SIZE, 3), tf.float32, name="inputs")
    module.__call__ = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])
    for part in ("variables", "assets"):
        shutil.rmtree(directory / part, ignore_errors=True)
    tf.saved_model.save(module, str(directory), signatures=module.__call__)
    (directory / "classes.txt").write_text("\n".join(shapes.NAMES) + "\n", encoding="utf-8")


def readme(config: Config, figures: dict) -> str:
    """The text beside the SavedModel."""
    shape = f"(B, {shapes.SIZE}, {shapes.SIZE}, 3)"
    return f"""# The bundled teacher

A small convolutional network that knows the {len(shapes.NAMES)} shapes of `--images shapes`, as a SavedModel in
the TF-Hub convention: float32 pixels in 0..1, {shape}, to logits. `--teacher bundled` names it; classes.txt
names its classes.

Made by

    python -m jobs.train_bundled_teacher --images {config.images} --epochs {config.epochs} --seed {config.seed}

on {config.images:,} pictures drawn from a seed of their own, which are in neither split of `--images shapes`.

| | |
|---|---|
| top-1 on {config.validation_images:,} held-out pictures | {figures["top1"]:.1%} |
| parameters | {figures["parameters"]:,} |
| bytes | {figures["bytes"]:,} |
| seconds to make, drawing included | {figures["seconds"]:.0f} |
"""


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
