"""A training step of KTH's DD2424 network, its batch included, against NumPy, Keras and PyTorch.

    python -m benchmarks.training_step

Patches of 4, 40 filters, 300 hidden units, batches of 100 images of 32x32 pixels, float32, plain gradient descent with
L2: 515 million floating-point operations in products a step. Each contestant trains in a process of its own, with the
settings of its library that its users have, and they take turns:

- ours: the network, the objective and the loop of jobs.train, with op determinism as there, several steps to a call.
- numpy: the step derived by hand, as the course has it: the patches of all images were laid out as rows before.
- keras, keras_20: `fit` of stock layers, 1 or 20 steps per execution, shuffled and batched by tf.data.
- torch: stock modules and SGD, the batches taken from the array by index; null where PyTorch is not installed.

The last line is one JSON object: milliseconds of a step, ours_ms, numpy_ms, keras_ms, keras_20_ms, torch_ms; the ratios
of ours to NumPy's and to the faster of Keras's, which are better the smaller; and the load of the machine before.
"""

import functools
import json
import os

import numpy as np

from benchmarks.timing import measure_apart

IMAGES, BATCH, SIZE, CLASSES = 50_000, 100, 32, 10
PATCH, FILTERS, HIDDEN = 4, 40, 300
RATE, L2 = 0.01, 0.006
STEPS_PER_TURN, REPEATS = 120, 9


def noise():
    """(uint8 (IMAGES, SIZE, SIZE, 3), int32 (IMAGES,)): what the pixels are does not matter to the time."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    return pixels, random.integers(0, CLASSES, IMAGES, dtype=np.int32)


def ours():
    """The steps of jobs.train."""
    import tensorflow as tf

    from jobs.training.optimizer import build_optimizer
    from models import networks
    from models.flags import ObjectiveFlags, OptimizerFlags
    from models.objective import Objective
    from tfpipeline.batches import TrainingBatches
    from tfpipeline.training.step import compile_steps, distribute_batches
    from tfpipeline.training.trainer import MOST_STEPS_PER_CALL, Task

    tf.config.experimental.enable_op_determinism()
    images, truth = noise()
    options = {"patch_size": PATCH, "filters": FILTERS, "hidden": HIDDEN}
    model = networks.build("patchify_net", (SIZE, SIZE, 3), CLASSES, **options)
    batches = TrainingBatches(images, {"truth": truth}, BATCH, seed=0)
    flags = OptimizerFlags(optimizer="sgd", momentum=0.0, schedule="constant", learning_rate=RATE)
    objective = Objective(ObjectiveFlags(l2=L2), model)
    task = Task(
        model=model,
        optimizer=build_optimizer(flags, 1, batches.steps_per_epoch),
        loss=objective,
        measures={"training_top1": objective.hits},
        batches_from=batches.from_step,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=1,
    )
    task.optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    take_steps = compile_steps(task, strategy)
    iterator = iter(distribute_batches(batches.from_step(0), strategy))

    def train():
        for first in range(0, STEPS_PER_TURN, MOST_STEPS_PER_CALL):
            steps = min(MOST_STEPS_PER_CALL, STEPS_PER_TURN - first)
            take_steps(iterator, tf.constant(steps)).numpy()

    return train


def numpy_step():
    """The step derived by hand, in NumPy."""
    pixels, truth = noise()
    side = SIZE // PATCH
    blocks = pixels.reshape(-1, side, PATCH, side, PATCH * 3).transpose(0, 1, 3, 2, 4)
    patches = (blocks.reshape(IMAGES, side * side, PATCH * PATCH * 3).astype(np.float32) - 120) / 64
    random = np.random.default_rng(1)
    shapes = ((PATCH * PATCH * 3, FILTERS), (side * side * FILTERS, HIDDEN), (HIDDEN, CLASSES))
    weights = [(random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in shapes]
    biases = [np.zeros(shape[1], np.float32) for shape in shapes]

    def step():
        index = random.integers(0, IMAGES, BATCH)
        rows = patches[index].reshape(-1, shapes[0][0])
        first = np.maximum(rows @ weights[0] + biases[0], 0).reshape(BATCH, -1)
        second = np.maximum(first @ weights[1] + biases[1], 0)
        logits = second @ weights[2] + biases[2]
        answers = np.exp(logits - logits.max(axis=1, keepdims=True))
        answers /= answers.sum(axis=1, keepdims=True)
        answers[np.arange(BATCH), truth[index]] -= 1
        to_logits = answers / BATCH
        to_second = (to_logits @ weights[2].T) * (second > 0)
        to_first = ((to_second @ weights[1].T) * (first > 0)).reshape(-1, FILTERS)
        gradients = rows.T @ to_first, first.T @ to_second, second.T @ to_logits
        for weight, bias, gradient, g in zip(weights, biases, gradients, (to_first, to_second, to_logits), strict=True):
            weight -= RATE * (gradient + L2 * weight)
            bias -= RATE * g.sum(axis=0)

    return lambda: [step() for _ in range(STEPS_PER_TURN)]


def keras_fit(steps_per_execution):
    """`fit` of stock layers."""
    import keras
    import tensorflow as tf

    images, truth = noise()
    penalty = keras.regularizers.L2(L2 / 2)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Rescaling(1 / 64, -120 / 64),
            keras.layers.Conv2D(FILTERS, PATCH, PATCH, activation="relu", kernel_regularizer=penalty),
            keras.layers.Flatten(),
            keras.layers.Dense(HIDDEN, activation="relu", kernel_regularizer=penalty),
            keras.layers.Dense(CLASSES, kernel_regularizer=penalty),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    count = STEPS_PER_TURN * BATCH
    examples = tf.data.Dataset.from_tensor_slices((images[:count], truth[:count])).shuffle(count)
    batches = examples.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return lambda: model.fit(batches, verbose=0)


def torch_step():
    """Stock modules of PyTorch."""
    import torch

    images, truth = (torch.from_numpy(array) for array in noise())
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, FILTERS, PATCH, PATCH),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear((SIZE // PATCH) ** 2 * FILTERS, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, CLASSES),
    )
    optimizer = torch.optim.SGD(model.parameters(), RATE, weight_decay=L2)
    images, truth = images.permute(0, 3, 1, 2).contiguous(), truth.long()

    def step():
        index = torch.randint(IMAGES, (BATCH,))
        pixels = (images[index].float() - 120) / 64
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels), truth[index]).backward()
        optimizer.step()

    return lambda: [step() for _ in range(STEPS_PER_TURN)]


def main() -> None:
    """Measures and prints."""
    load = os.getloadavg()[0]
    contestants = {
        "ours": ours,
        "numpy": numpy_step,
        "keras": functools.partial(keras_fit, 1),
        "keras_20": functools.partial(keras_fit, 20),
        "torch": torch_step,
    }
    measured = measure_apart(contestants, REPEATS)
    times = {name: None if one is None else 1000 * one.seconds / STEPS_PER_TURN for name, one in measured.items()}
    for name, milliseconds in times.items():
        print(f"{name:10} {'-' if milliseconds is None else f'{milliseconds:.2f}':>8} ms")
    figures = {f"{name}_ms": None if value is None else round(value, 3) for name, value in times.items()}
    ratios = {
        "to_numpy": times["ours"] / times["numpy"],
        "to_keras": times["ours"] / min(times["keras"], times["keras_20"]),
    }
    print(json.dumps(figures | {name: round(value, 3) for name, value in ratios.items()} | {"load": round(load, 2)}))


if __name__ == "__main__":
    main()
