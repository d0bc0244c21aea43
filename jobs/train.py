"""python -m jobs.train: a student from a teacher's answers; killed at any moment, --resume goes on to the bit."""

import dataclasses
import os
import pathlib
import tempfile
import time
from contextlib import nullcontext

from jobs import command
from jobs.command import flag, required
from jobs.image_flags import ImageFlags
from tfpipeline.system import FlagError

EXAMPLE = "python -m jobs.train --images shapes --labels labels/shapes --validation-split valid --run runs/shapes"
OPTIMIZERS = ("adamw", "adam", "sgd")
MONITORS = ("validation_top1", "agreement_top1", "loss")
STRATEGIES = ("one", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_bfloat16")
TARGETS = ("soft", "hard")
SCHEDULES = ("cosine", "triangular", "restarts", "cyclical", "constant")


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
    schedule: str = flag(
        "cosine", "how the learning rate falls; more epochs can follow all but cosine and triangular", choices=SCHEDULES
    )
    warmup_epochs: float = flag(1.0, "epochs in which it rises, for cosine and triangular; at most a fifth of all")
    lowest_learning_rate: float = flag(1e-5, "the learning rate between cycles, for cyclical")
    cycle_steps: int = flag(800, "steps from the lowest learning rate to the highest, for cyclical", metavar="STEPS")
    cycle_growth: int = flag(1, "by what each cycle is longer than the one before, for cyclical", metavar="FACTOR")
    optimizer: str = flag("adamw", "how the weights follow their gradients", choices=OPTIMIZERS)
    weight_decay: float = flag(0.01, "decoupled decay of the weights, for adamw")
    momentum: float = flag(0.9, "Nesterov's, for sgd; 0 for none")
    l2: float = flag(0.0, "lambda of lambda/2 |w|^2, added to the loss for every kernel")
    targets: str = flag(
        "soft", "of the teacher's answers learn the probabilities, or the first class alone", choices=TARGETS
    )
    temperature: float = flag(1.0, "T at which the teacher's answers are learned")
    truth_weight: float = flag(0.0, "share of the loss that the truth has beside the teacher, 0..1")
    label_smoothing: float = flag(0.0, "of the truth and of hard targets, 0..1")
    confidence_threshold: float = flag(
        0.0, "answers whose highest probability is below P do not count in the loss; 0 for none", metavar="P"
    )
    class_balance: float = flag(
        0.0, "samples count by (images of their class)^-BETA, in the mean 1; BETA in 0..1, 0 for none", metavar="BETA"
    )
    augment: str = flag(
        "flip,translate:4",
        "changes to the training images, or: none; replay first: each view that the labels keep, with its own answer",
        metavar="LIST",
    )
    mix: str = flag(
        "none", "mixtures of two images and their labels: mixup:0.2, cutmix:1, or none", metavar="NAME:ALPHA"
    )
    seed: int = flag(0, "of the first weights, the order and the augmentation")
    validation_images: str | None = flag(None, "held-out images, by default those of --images", metavar="SPEC")
    validation_split: str | None = flag(
        None, "their split; by default valid for shapes, else without it nothing is validated", metavar="SPLIT"
    )
    validation_truth: str | None = flag(None, "csv of their truth", metavar="CSV")
    validation_labels: str | None = flag(None, "their label store, for the agreement with the teacher", metavar="DIR")
    validation_limit: int | None = flag(None, "only the first so many of them", metavar="N")
    ema: float = flag(0.0, "share that the moving average of the weights keeps at each step, such as 0.999; 0 for none")
    clip_norm: float | None = flag(None, "the largest norm of all gradients together", metavar="NORM")
    patience: int | None = flag(None, "end after so many epochs without a better --monitor", metavar="EPOCHS")
    best: bool = flag(False, "model.keras gets the weights of the epoch with the best --monitor, not the last")
    monitor: str = flag("validation_top1", "what is best and what must get better", choices=MONITORS)
    overfit: int | None = flag(None, "check: learn the first so many images by heart, unaugmented", metavar="N")
    precision: str = flag("float32", "arithmetic of the layers; the weights are float32", choices=PRECISIONS)
    strategy: str = flag(
        "one",
        "mirrored: share each batch between all devices; multi_worker: between the machines of TF_CONFIG too",
        choices=STRATEGIES,
    )
    save_every: str = flag("60s", "checkpoint after so many steps (500) or seconds (60s), and after every epoch")
    mirror: str | None = flag(None, "copy checkpoints there too, such as on a mounted drive", metavar="DIR")
    tensorboard: bool = flag(False, "write RUN/tensorboard; needs the tensorboard package")
    profile: bool = flag(False, "write a profile of steps 10 to 20 to RUN/profile")


def run(config: Config) -> dict:
    """Trains to the last epoch and returns the figures."""
    from tfpipeline.training import parse_save_every
    from tfpipeline.training.distributed import read_cluster

    check_flags(config)
    save_every = parse_save_every(config.save_every)
    cluster = read_cluster(os.environ) if config.strategy == "multi_worker" else None
    command.import_tensorflow()

    import keras
    import tensorflow as tf

    from jobs.training import build_task, check_snapshot
    from tfpipeline.system import Console
    from tfpipeline.training import Saver, fetch_from_mirror, run_directory
    from tfpipeline.training.distributed import strategies

    # Order of additions: without it the threads of the machine decide about the last bits.
    keras.utils.set_random_seed(config.seed % 2**32)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.precision)
    console, directory = Console(config.quiet), pathlib.Path(config.run)
    mirror = None if config.mirror is None else pathlib.Path(config.mirror)
    checkpoints = directory / run_directory.CHECKPOINTS
    if cluster:
        console.say(f"this is {cluster.name(cluster.number)}; waiting until all {len(cluster.addresses)} are there")
    with strategies.met(cluster) as workers, run_directory.locked(directory) if workers.is_chief else nullcontext():
        snapshot = None
        if workers.is_chief:
            if mirror is not None and config.resume:
                fetch_from_mirror(mirror, checkpoints, console.say)
            snapshot = run_directory.newest_snapshot(directory, config.resume, console.say)
        snapshot = workers.snapshot_of_chief(snapshot)
        strategy = strategies.strategy_named(config.strategy, workers)
        with strategy.scope():
            task = build_task(config, strategy.num_replicas_in_sync, console, workers)
        workers.check_same(task.experiment, "start all workers with the same flags, images and labels")
        if snapshot is not None:
            check_snapshot(snapshot, task, config, console)
        flags = dataclasses.asdict(config)
        if workers.is_chief:
            run_directory.write_config(
                directory, {"flags": flags, "experiment": task.experiment, "machine": task.machine}
            )
        saver = Saver(checkpoints, save_every, mirror, console.say)
        return train(task, directory, saver, snapshot, config, console, strategy, workers)


def train(task, directory, saver, snapshot, config, console, strategy, workers) -> dict:
    """Runs the trainer, writes model.keras and returns the figures."""
    from tfpipeline.training import Trainer

    start = time.monotonic()
    trainer = Trainer(task, directory, saver, console=console, strategy=strategy, workers=workers)
    history = trainer.run(snapshot)
    trainer.finish()
    if workers.is_chief:
        write_model(task.model, directory / "model.keras")
    told = next((row for row in history if row["step"] == trainer.best_step), history[-1])
    names = ("validation_top1", "validation_top5", "agreement_top1", "agreement_top5", "kl_nats")
    names += ("teacher_top1", "relative_top1")
    images = trainer.steps_taken * config.batch_size
    return {
        "steps": trainer.step,
        "epochs": len(history),
        "seconds": round(time.monotonic() - start, 3),
        "images_per_second": round(images / trainer.seconds_in_steps, 1) if images else None,
        **{name: told.get(name) for name in names},
        "weights_sha256": trainer.weights_sha256(),
        "run": config.run,
    }


def write_model(model, path: pathlib.Path) -> None:
    """Writes a .keras file, whole or not at all."""
    from tfpipeline.system import write_file

    with tempfile.TemporaryDirectory() as directory:
        whole = pathlib.Path(directory) / "model.keras"
        model.save(whole, include_optimizer=False)
        write_file(path, whole.read_bytes())


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
        (
            "lowest_learning_rate",
            config.schedule != "cyclical" or 0 <= config.lowest_learning_rate <= config.learning_rate,
            "from 0 to --learning-rate",
        ),
        ("cycle_steps", config.cycle_steps >= 1, "at least 1"),
        ("cycle_growth", config.cycle_growth >= 1, "at least 1"),
        ("weight_decay", config.weight_decay >= 0, "at least 0"),
        ("momentum", 0 <= config.momentum < 1, "from 0 to below 1"),
        ("l2", config.l2 >= 0, "at least 0"),
        ("temperature", config.temperature > 0, "above 0"),
        ("truth_weight", 0 <= config.truth_weight <= 1, "in 0..1"),
        ("label_smoothing", 0 <= config.label_smoothing < 1, "in 0..1"),
        ("confidence_threshold", 0 <= config.confidence_threshold <= 1, "in 0..1"),
        ("class_balance", 0 <= config.class_balance <= 1, "in 0..1"),
        ("ema", 0 <= config.ema < 1, "in 0..1"),
        ("clip_norm", config.clip_norm is None or config.clip_norm > 0, "above 0"),
        ("patience", config.patience is None or config.patience >= 1, "at least 1"),
        ("overfit", config.overfit is None or config.overfit >= 1, "at least 1"),
        ("seed", 0 <= config.seed < 2**64, "in 0..2^64-1"),
    ):
        if not fits:
            raise FlagError(f"--{name.replace('_', '-')} is {getattr(config, name)}; it must be {meaning}")


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
