"""python -m jobs.train: a student from a teacher's answers; killed at any moment, --resume goes on to the bit."""

import dataclasses
import functools
import os
import pathlib
import platform
import re
import tempfile
import time

import numpy as np

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags, open_images
from tfpipeline.errors import FlagError

EXAMPLE = "python -m jobs.train --images shapes --labels labels/shapes --validation-split valid --run runs/shapes"
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "linear", "constant")
# Where the run is and how it is told: nothing of this changes a bit of the result.
NOT_THE_EXPERIMENT = frozenset(
    (
        "images",
        "split",
        "truth",
        "limit",
        "size",
        "skip_broken",
        "archives",
        "data_dir",
        "cache",
        "quiet",
        "labels",
        "run",
        "resume",
        "save_every",
        "validation_images",
        "validation_split",
        "validation_truth",
        "validation_labels",
        "validation_limit",
    )
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageFlags):
    """Trains a network from its first weights on a teacher's answers, or on the truth."""

    labels: str = required("label store of the images, or: truth", metavar="DIR")
    run: str = required("run directory: checkpoints, history.csv, config.json, model.keras", metavar="DIR")
    resume: bool = flag(False, "go on from the newest checkpoint in --run; begins where there is none")
    network: str = flag("fast_resnet", "a network of models/networks.py", metavar="NAME")
    network_options: tuple[str, ...] = flag((), "key=value of the network; may be repeated", metavar="KEY=VALUE")
    epochs: int = flag(20, "times that all images are seen")
    batch_size: int = flag(100, "images per step")
    learning_rate: float = flag(2e-3, "the highest learning rate")
    schedule: str = flag("cosine", "how the learning rate falls", choices=SCHEDULES)
    warmup_epochs: float = flag(1.0, "epochs in which the learning rate rises; at most a fifth of all")
    optimizer: str = flag("adamw", "how the weights follow their gradients", choices=OPTIMIZERS)
    weight_decay: float = flag(0.01, "decoupled decay of the weights, for adamw")
    temperature: float = flag(1.0, "T at which the teacher's answers are learned")
    truth_weight: float = flag(0.0, "share of the loss that the truth has beside the teacher, 0..1")
    label_smoothing: float = flag(0.0, "of the truth, 0..1")
    augment: str = flag("flip,translate:4", "changes to the training images, or: none", metavar="LIST")
    seed: int = flag(0, "of the first weights, the order and the augmentation")
    validation_images: str | None = flag(None, "held-out images, by default those of --images", metavar="SPEC")
    validation_split: str | None = flag(
        None, "their split; by default valid for shapes, else without it nothing is validated", metavar="SPLIT"
    )
    validation_truth: str | None = flag(None, "csv of their truth", metavar="CSV")
    validation_labels: str | None = flag(None, "their label store, for the agreement with the teacher", metavar="DIR")
    validation_limit: int | None = flag(None, "only the first so many of them", metavar="N")
    save_every: str = flag("60s", "checkpoint after so many steps (500) or seconds (60s), and after every epoch")


def run(config: Config) -> dict:
    """Trains to the last epoch and returns the figures."""
    check_flags(config)
    command.import_tensorflow()
    save_every = parse_save_every(config.save_every)

    import keras
    import tensorflow as tf

    from tfpipeline import run_directory
    from tfpipeline.progress import Console

    # Order of additions: without it the threads of the machine decide about the last bits.
    keras.utils.set_random_seed(config.seed % 2**32)
    tf.config.experimental.enable_op_determinism()
    console, directory = Console(config.quiet), pathlib.Path(config.run)
    with run_directory.locked(directory):
        snapshot = run_directory.newest_snapshot(directory, config.resume, console.say)
        task = build_task(config, console)
        if snapshot is not None:
            check_snapshot(snapshot, task, config, console)
        flags = dataclasses.asdict(config)
        run_directory.write_config(directory, {"flags": flags, "experiment": task.experiment, "machine": task.machine})
        return train(task, directory, save_every, snapshot, config, console)


def train(task, directory, save_every, snapshot, config, console) -> dict:
    """Runs the trainer, writes model.keras and returns the figures."""
    from tfpipeline.trainer import Trainer

    start = time.monotonic()
    trainer = Trainer(task, directory, save_every, console=console)
    history = trainer.run(snapshot)
    write_model(task.model, directory / "model.keras")
    last = history[-1]
    names = ("validation_top1", "validation_top5", "agreement_top1", "agreement_top5", "teacher_top1", "relative_top1")
    images = trainer.steps_taken * config.batch_size
    return {
        "steps": trainer.step,
        "epochs": len(history),
        "seconds": round(time.monotonic() - start, 3),
        "images_per_second": round(images / trainer.seconds_in_steps, 1) if images else None,
        **{name: last.get(name) for name in names},
        "weights_sha256": trainer.weights_sha256(),
        "run": config.run,
    }


def build_task(config: Config, console):
    """The network, its data and its optimizer, all seeded."""
    from jobs import training_data
    from models import networks, schedules
    from tfpipeline import augment, batches, order
    from tfpipeline.trainer import Task

    store = open_images(config, console)
    data = training_data.training_data(store, config.labels, console)
    validation = open_validation(config, data, console)
    targets = training_data.targets_of(data, config.truth_weight)
    change = None if config.augment == "none" else augment.parse(config.augment)
    steps_per_epoch = order.steps_per_epoch(config.batch_size, len(data.images))
    steps = config.epochs * steps_per_epoch
    warmup_steps = round(min(config.warmup_epochs, config.epochs / 5) * steps_per_epoch)
    options = networks.parse_options(config.network, config.network_options)
    model = networks.build(config.network, data.images.shape[1:], data.classes, **options)
    return Task(
        model=model,
        optimizer=build_optimizer(config, schedules.build(config.schedule, config.learning_rate, steps, warmup_steps)),
        loss=build_loss(config),
        batches_from=lambda step: batches.training_batches(
            data.images, targets, config.batch_size, config.seed, step, change
        ),
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        evaluate=None if validation is None else functools.partial(evaluate, model, validation),
        experiment=experiment_of(config, data, validation),
        machine=machine(),
    )


def open_validation(config: Config, data, console):
    """The held-out images, or None."""
    from jobs import training_data

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
    return training_data.validation_data(store, config.validation_labels, data, config.labels, console)


def build_optimizer(config: Config, schedule):
    """The optimizer that the flags name."""
    import keras

    if config.optimizer == "sgd":
        return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(schedule)
    return keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)


def build_loss(config: Config):
    """The loss of a sample, (logits, batch) -> (B,)."""
    from models import losses

    if config.labels == "truth":
        return functools.partial(losses.hard_labels, label_smoothing=config.label_smoothing)
    if config.truth_weight:
        return functools.partial(
            losses.distillation_with_truth,
            truth_weight=config.truth_weight,
            temperature=config.temperature,
            label_smoothing=config.label_smoothing,
        )
    return functools.partial(losses.distillation, temperature=config.temperature)


def evaluate(model, validation) -> dict:
    """The figures of the student on held-out images, under the names of the history."""
    from tfpipeline import evaluation

    answers = evaluation.answer_images(model, validation.images)
    figures = evaluation.figures(answers, validation.truth, validation.teacher_top)
    return {f"validation_{name}" if name in ("top1", "top5") else name: value for name, value in figures.items()}


def experiment_of(config: Config, data, validation) -> dict:
    """All that decides the result: the flags that do, and hashes of what is read."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in NOT_THE_EXPERIMENT}
    nothing = dict.fromkeys(("validation_images", "validation_truth", "validation_labels"))
    return flags | data.identity | (nothing if validation is None else validation.identity)


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


def check_snapshot(snapshot, task, config: Config, console) -> None:
    """Refuses to go on with another experiment; says what another machine means.

    Raises:
        UserError: what decides the result has changed; names it.
    """
    from models import schedules
    from tfpipeline import run_directory

    may_change = () if config.schedule in schedules.DEPENDS_ON_LENGTH else ("epochs",)
    run_directory.check_same_experiment(snapshot.config["experiment"], task.experiment, may_change)
    saved = snapshot.config["machine"]
    changed = [
        f"{name} {saved.get(name)} is now {value}" for name, value in task.machine.items() if saved.get(name) != value
    ]
    if changed:
        console.say(f"another machine ({', '.join(changed)}): the order is exact, the last bits are not promised")


def write_model(model, path: pathlib.Path) -> None:
    """Writes a .keras file, whole or not at all."""
    from tfpipeline import durable

    with tempfile.TemporaryDirectory() as directory:
        whole = pathlib.Path(directory) / "model.keras"
        model.save(whole, include_optimizer=False)
        durable.write_file(path, whole.read_bytes())


def parse_save_every(text: str):
    """How often to save: "500" steps or "60s".

    Raises:
        FlagError: the text is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(s?)", text)
    if not match:
        raise FlagError(f"--save-every {text}: write a number of steps such as 500, or of seconds such as 60s")
    from tfpipeline.trainer import SaveEvery

    return SaveEvery(seconds=int(match[1])) if match[2] else SaveEvery(steps=int(match[1]))


def check_flags(config: Config) -> None:
    """Checks the numbers that only make sense in a range.

    Raises:
        FlagError: a flag is out of its range; names it.
    """
    for name, fits, meaning in (
        ("epochs", config.epochs >= 1, "at least 1"),
        ("batch_size", config.batch_size >= 1, "at least 1"),
        ("learning_rate", config.learning_rate > 0, "above 0"),
        ("warmup_epochs", config.warmup_epochs >= 0, "at least 0"),
        ("weight_decay", config.weight_decay >= 0, "at least 0"),
        ("temperature", config.temperature > 0, "above 0"),
        ("truth_weight", 0 <= config.truth_weight <= 1, "in 0..1"),
        ("label_smoothing", 0 <= config.label_smoothing < 1, "in 0..1"),
        ("seed", 0 <= config.seed < 2**64, "in 0..2^64-1"),
    ):
        if not fits:
            raise FlagError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be {meaning}")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
