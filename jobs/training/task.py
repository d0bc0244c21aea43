"""The task of jobs.train: what its flags make of images, labels, network, optimizer and loss."""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import platform

import numpy as np

from jobs.image_flags import open_images
from jobs.training import data as training_data
from jobs.training.data import first_images, hash_of, targets_of, tell_tail, validation_data, weights_of
from tfpipeline.batches import loss_of_pairs, order, parse_augmentation, parse_mixing, replays
from tfpipeline.system import FlagError, UserError
from tfpipeline.training import answer_images, evaluation, run_directory
from tfpipeline.training.distributed import ALONE

# Where the run is and how it is told: nothing of this changes a bit of the result. What is read counts by its hash.
NOT_THE_EXPERIMENT = frozenset(
    [
        *("images", "split", "truth", "limit", "size", "skip_broken", "archives", "data_dir", "cache", "labels"),
        *("validation_images", "validation_split", "validation_truth", "validation_labels", "validation_limit"),
        *("run", "resume", "quiet", "save_every", "mirror", "tensorboard", "profile", "strategy"),
    ]
)

LENGTHLESS_SCHEDULES = ("constant", "restarts", "cyclical")  # Their first epochs do not depend on how many there are.


def build_task(config, replicas: int, console, workers=ALONE):
    """The network, its data and its optimizer, all seeded: a tfpipeline.training.trainer.Task.

    Args:
        config: a jobs.train.Config.
        replicas: how many devices share each batch.
        console: where notes go.
        workers: the processes that train together, a tfpipeline.training.distributed.workers.Workers; this one gets its part of each batch.

    Raises:
        UserError: a flag does not go with another or with what is read.
    """
    from models import networks
    from tfpipeline.batches import training_batches
    from tfpipeline.training import Task

    store = open_images(config, console)
    changes = config.augment if config.overfit is None else "none"
    data = training_data.training_data(store, config.labels, console, replays(changes))
    if config.overfit is None:
        validation = open_validation(config, data, console)
    else:
        validation = data = first_images(data, config.overfit)
    check_goes_together(config, validation)
    targets = targets_of(data, config.truth_weight)
    tell_tail(targets, data.classes, config.temperature, console)
    targets |= weights_of(targets, config.confidence_threshold, config.class_balance, console)
    change = None if changes == "none" else parse_augmentation(changes, len(data.images), data.views)
    mix = None if config.overfit is not None else parse_mixing(config.mix)
    batch_size = config.batch_size if config.overfit is None else min(config.batch_size, config.overfit)
    if batch_size % replicas:
        raise FlagError(f"--batch-size {batch_size} cannot be shared evenly by {replicas} devices")
    steps_per_epoch = order.steps_per_epoch(batch_size, len(data.images))
    options = networks.parse_options(config.network, config.network_options)
    model = networks.build(config.network, data.images.shape[1:], data.classes, **options)
    experiment = experiment_of(config, data, validation) | {"replicas": replicas}
    return Task(
        model=model,
        optimizer=build_optimizer(config, learning_rate(config, steps_per_epoch)),
        loss=with_penalty(build_loss(config) if mix is None else loss_of_pairs(build_loss(config)), model, config),
        batches_from=lambda step: training_batches(
            data.images,
            targets,
            batch_size,
            config.seed,
            step,
            change,
            mix,
            views=max(len(data.views), 1),
            worker=workers.number,
            workers=workers.count,
        ),
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        evaluate=None if validation is None else functools.partial(evaluate, model, validation),
        callbacks=build_callbacks(config, workers.is_chief),
        monitor=config.monitor if config.best else None,
        experiment=experiment,
        machine=machine() | {"workers": workers.count},
    )


def open_validation(config, data, console):
    """The held-out images, or None."""
    split = config.validation_split or ("valid" if (config.validation_images or config.images) == "shapes" else None)
    if split is None and config.validation_images is None:
        console.say("nothing is validated: there is no --validation-split and no --validation-images")
        return None
    same = config.validation_images is None
    flags = dataclasses.replace(
        config,
        images=config.images if same else config.validation_images,
        split=split or "valid",
        truth=config.validation_truth,
        limit=config.validation_limit,
    )
    store = open_images(flags, console)
    return validation_data(store, config.validation_labels, data, console)


def learning_rate(config, steps_per_epoch: int):
    """The learning rate that the flags name: a number, or a function of the step."""
    from models import schedules

    steps = config.epochs * steps_per_epoch
    warmup_steps = round(min(config.warmup_epochs, config.epochs / 5) * steps_per_epoch)
    if config.schedule == "cosine":
        return schedules.WarmupCosine(config.learning_rate, steps, warmup_steps)
    if config.schedule == "triangular":
        if steps < 2:
            raise FlagError(f"--schedule triangular does not fit a training of {steps} step; give more --epochs")
        return schedules.Triangular(config.learning_rate, steps, max(warmup_steps, 1))
    if config.schedule == "restarts":
        return schedules.CosineWithRestarts(config.learning_rate, steps_per_epoch)
    if config.schedule == "cyclical":
        return schedules.Cyclical(
            config.lowest_learning_rate, config.learning_rate, config.cycle_steps, config.cycle_growth
        )
    return config.learning_rate


def build_optimizer(config, schedule):
    """The optimizer that the flags name."""
    import keras

    options = {"global_clipnorm": config.clip_norm}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(schedule, momentum=config.momentum, nesterov=config.momentum > 0, **options)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(schedule, **options)
    return keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, **options)


def with_penalty(loss, model, config):
    """The loss of a sample plus --l2's penalty on the weights, which every sample then has."""
    from models import schedules

    if not config.l2:
        return loss
    return lambda logits, batch: loss(logits, batch) + schedules.l2_penalty(model, config.l2)


def build_callbacks(config, is_chief: bool) -> list:
    """Keras's callbacks that the flags ask for; what only writes is left to the chief."""
    import keras

    callbacks, run = [], pathlib.Path(config.run)
    if config.patience is not None:
        mode = "min" if config.monitor == "loss" else "max"
        callbacks.append(keras.callbacks.EarlyStopping(config.monitor, patience=config.patience, mode=mode))
    if config.tensorboard and is_chief:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("--tensorboard needs a package: pip install -r requirements-extras.txt, or leave it out")
        callbacks.append(keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False))
    if config.profile and is_chief:
        from tfpipeline.training import ProfileSteps

        callbacks.append(ProfileSteps(run / "profile"))
    return callbacks


def check_goes_together(config, validation) -> None:
    """Checks flags against each other.

    Raises:
        FlagError: names the flags.
    """
    watched = config.best or config.patience is not None
    if watched and config.monitor == "validation_top1" and (validation is None or not (validation.truth >= 0).any()):
        raise FlagError("--monitor validation_top1: no truth of held-out images is known; give --validation-truth")
    if watched and config.monitor == "agreement_top1" and (validation is None or validation.answers is None):
        raise FlagError("--monitor agreement_top1: there are no --validation-labels to agree with; give them")
    if config.labels == "truth" and (config.targets == "hard" or config.confidence_threshold):
        name = "--targets hard" if config.targets == "hard" else "--confidence-threshold"
        raise FlagError(f"{name} is about a teacher's answers, and --labels truth has none; leave one of them out")
    if config.targets == "hard" and config.temperature != 1:
        raise FlagError(f"--temperature {config.temperature} has no meaning with --targets hard; leave one of them out")


def build_loss(config):
    """The loss of a sample, (logits, batch) -> (B,)."""
    from models import losses

    smoothing = config.label_smoothing
    if config.labels == "truth":
        loss = functools.partial(losses.hard_labels, label_smoothing=smoothing)
    elif config.targets == "hard":
        loss = functools.partial(losses.teacher_class, label_smoothing=smoothing)
    else:
        loss = functools.partial(losses.distillation, temperature=config.temperature)
    if config.truth_weight and config.labels != "truth":
        loss = losses.with_truth(loss, config.truth_weight, smoothing)
    return losses.weighted(loss) if config.confidence_threshold or config.class_balance else loss


def evaluate(model, validation) -> dict:
    """The figures of the student on held-out images, under the names of the history."""
    from models.losses import distillation

    answers = answer_images(model, validation.images, divergence=distillation, targets=validation.answers)
    figures = evaluation.figures(answers, validation.truth, validation.teacher_top)
    return {f"validation_{name}" if name in ("top1", "top5") else name: value for name, value in figures.items()}


def experiment_of(config, data, validation) -> dict:
    """All that decides the result: the flags that do, and hashes of what is read."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in NOT_THE_EXPERIMENT}
    learned_truth = {"truth": hash_of([data.truth])} if config.truth_weight else {}
    nothing = dict.fromkeys(("validation_images", "validation_truth", "validation_labels"))
    return flags | data.identity | learned_truth | (nothing if validation is None else validation.identity)


def machine() -> dict:
    """All that decides the rounding of sums."""
    import keras
    import tensorflow as tf

    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "processor": platform.machine(),
        "threads": len(os.sched_getaffinity(0)),
        "devices": sorted(device.device_type for device in tf.config.list_physical_devices()),
    }


def check_snapshot(snapshot, task, config, console) -> None:
    """Refuses to go on with another experiment; says what another machine means.

    Raises:
        UserError: what decides the result has changed; names it.
    """
    may_change = ("epochs",) if config.schedule in LENGTHLESS_SCHEDULES else ()
    run_directory.check_same_experiment(snapshot.config["experiment"], task.experiment, may_change)
    saved = snapshot.config["machine"]
    changed = [
        f"{name} {saved.get(name)} is now {value}" for name, value in task.machine.items() if saved.get(name) != value
    ]
    if changed:
        console.say(f"another machine ({', '.join(changed)}): the order is exact, the last bits are not promised")
