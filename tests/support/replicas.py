"""Operations and trainings that two devices, or two processes, share, and on one alone; for processes of their own."""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from models import networks
from models.gradients.batch_normalization import batch_normalization
from models.gradients.bottleneck_block import bottleneck_block
from models.gradients.dropout import dropout
from models.gradients.normalized_convolution import Weights
from models.gradients.replicas import rows_of_replica
from models.gradients.residual_block import residual_block
from models.gradients.softmax_cross_entropy import class_cross_entropy
from tfpipeline.batches.dataset import TrainingBatches
from tfpipeline.batches.mixing import OWN_WEIGHT, parse_mixing, partners_of
from tfpipeline.training.distributed import build_strategy, connect_workers
from tfpipeline.training.step import compile_steps, distribute_batches
from tfpipeline.training.trainer import Task

REPLICAS, EPSILON, DTYPES = 2, 1e-3, ("float64", "float32")
COUNT, BATCH, CLASSES, STEPS = 40, 8, 3, 10


def two_devices():
    """The strategy of two logical devices; to be called before any other operation."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS)
    return tf.distribute.MirroredStrategy([f"cpu:{number}" for number in range(REPLICAS)])


def relative_difference(ours, theirs):
    """The largest difference, relative to the largest of the values."""
    ours, theirs = (np.asarray(array, np.float64) for array in (ours, theirs))
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), np.finfo(np.float64).tiny))


def _normalize(x, gamma, beta):
    y, mean, variance = batch_normalization(x, gamma, beta, EPSILON)
    return y, (mean, variance)


def _residual(x, *weights):
    stages = [Weights(*weights[first : first + 3]) for first in range(0, len(weights), 3)]
    return residual_block(x, *stages[:2], stages[2] if len(stages) > 2 else None, (1, 1), EPSILON)


def _bottleneck(x, *weights):
    stages = [Weights(*weights[first : first + 3]) for first in range(0, len(weights), 3)]
    return bottleneck_block(x, *stages, (2, 1), EPSILON)


def _drop(x):
    return dropout(x, 0.4, (3, 4)), ()


# name -> (operation, shape of the whole batch, shapes of the kernels or of gamma and beta, mean of the inputs)
OPERATIONS = {
    "batch normalization": (_normalize, (6, 5, 4, 3), ((3,),), 1.0),
    "batch normalization far from 0": (_normalize, (4, 3), ((3,),), 1e3),
    "residual block": (_residual, (4, 5, 4, 3), ((3, 3, 3, 3), (3, 3, 3, 3)), 0.5),
    "residual block with projection": (_residual, (4, 5, 4, 2), ((3, 3, 2, 3), (3, 3, 3, 3), (1, 1, 2, 3)), 0.5),
    "bottleneck block": (
        _bottleneck,
        (4, 4, 3, 5),
        ((1, 1, 5, 2), (3, 3, 2, 2), (1, 1, 2, 8), (1, 1, 5, 8)),
        0.5,
    ),
    "dropout": (_drop, (6, 5, 3), (), 0.0),
}


def compare_operations(path):
    """Writes [operation, type, result, how far it is on two devices from what it is on one], one after another."""
    strategy = two_devices()
    rows = [
        [name, dtype, result, difference]
        for name, parts in OPERATIONS.items()
        for dtype in DTYPES
        for result, difference in _differences(strategy, *parts, dtype).items()
    ]
    pathlib.Path(path).write_text(json.dumps(rows))


def _differences(strategy, operation, shape, kernels, mean, dtype):
    random = np.random.default_rng(0)
    x, weights = tf.constant(random.normal(mean, 1, shape), dtype), []
    for kernel in kernels:
        if len(kernel) > 1:
            weights.append(tf.constant(random.normal(size=kernel), dtype))
        weights += [tf.constant(random.normal(center, 0.5, kernel[-1]), dtype) for center in (1, 0)]
    cotangent = tf.constant(random.normal(size=operation(x, *weights)[0].shape), dtype)

    def derive(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y, statistics = operation(x, *weights)
        dx, *dweights = tape.gradient(y, [x, *weights], output_gradients=cotangent)
        return {"y": y, "dx": dx, "statistics": tf.nest.flatten(statistics), "dweights": dweights}

    def of_replica():
        first, last = rows_of_replica(tf.constant(shape[0] // REPLICAS))
        return derive(x[first:last], cotangent[first:last])

    whole = derive(x, cotangent)
    shared = tf.function(lambda: strategy.run(of_replica))()
    of_replicas = [strategy.experimental_local_results(one) for one in tf.nest.flatten(shared)]
    parts = [tf.nest.pack_sequence_as(shared, part) for part in zip(*of_replicas, strict=True)]
    ours = {name: np.concatenate([part[name] for part in parts]) for name in ("y", "dx")}
    differences = {name: relative_difference(array, whole[name]) for name, array in ours.items()}
    differences["zeros of y"] = int(((ours["y"] == 0) != (whole["y"].numpy() == 0)).sum())
    for name, theirs in enumerate(whole["dweights"]):
        of_parts = [part["dweights"][name] for part in parts]
        differences[f"gradient of weight {name}"] = relative_difference(sum(of_parts), theirs)
    for name, theirs in enumerate(whole["statistics"]):
        for part in parts:
            differences[f"statistic {name}"] = relative_difference(part["statistics"][name], theirs)
    return differences


def train_on_devices(shared, alone):
    """Writes what `_record_steps` tells of a training on two devices, and of the same on one."""
    strategy = two_devices()
    _record_steps(strategy, shared)
    _record_steps(tf.distribute.get_strategy(), alone)


def train_as_worker(path, cluster):
    """Writes the same as one of the processes of a cluster."""
    with connect_workers(cluster) as workers:
        _record_steps(build_strategy("multi_worker", workers), path, (cluster.number, workers.count))


def farthest(path, other):
    """type -> step -> how far the variables of two trainings are from each other after it, the farthest of all."""
    with np.load(path) as ours, np.load(other) as theirs:
        assert set(ours) == set(theirs)
        return {
            dtype: [
                max(
                    relative_difference(ours[name], theirs[name])
                    for name in ours
                    if name.startswith(f"{dtype} {step} ")
                )
                for step in range(STEPS)
            ]
            for dtype in DTYPES
        }


def _record_steps(strategy, path, part=(0, 1)):
    """Writes the values of all variables after each step, in each type."""
    values = {}
    for dtype in DTYPES:
        keras.config.set_dtype_policy(dtype)
        keras.config.set_floatx(dtype)
        for step, variables in enumerate(_train(strategy, part)):
            values |= {f"{dtype} {step} {number}": value for number, value in enumerate(variables)}
    np.savez(path, **values)


def _train(strategy, part):
    """The values of all variables after each step: batch statistics, masks, averages, mixed and clipped."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 6, 3), np.uint8)
    truth = (np.arange(COUNT) % CLASSES).astype(np.int32)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        options = {"filters_per_layer": (4,), "hidden_dims": (8,), "batch_norm": True, "dropout": 0.3}
        model = networks.build("conv_classifier", images.shape[1:], CLASSES, **options)
        model = keras.Model(model.inputs, model.get_layer("logits").input)  # Before they are made float32.
        optimizer = keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9, global_clipnorm=1.0)
        optimizer.build(model.trainable_variables)

    def loss(logits, batch):
        own, partner = (class_cross_entropy(logits, part["truth"]) for part in (batch, partners_of(batch)))
        share = tf.cast(batch[OWN_WEIGHT], logits.dtype)
        return share * own + (1 - share) * partner

    batches = TrainingBatches(images, {"truth": truth}, BATCH, 5, mix=parse_mixing("mixup:1"), part=part).from_step
    task = Task(model, optimizer, loss, batches, COUNT // BATCH, 1)
    take_steps, iterator = compile_steps(task, strategy), iter(distribute_batches(batches(0), strategy))
    for _ in range(STEPS):
        take_steps(iterator, tf.constant(1))
        yield [keras.ops.convert_to_numpy(variable) for variable in [*model.variables, *optimizer.variables]]
