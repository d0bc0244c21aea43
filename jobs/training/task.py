"""The task of jobs.train: what its flags make of images, labels, network, optimizer and objective."""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import platform

import keras
import numpy as np
import tensorflow as tf

from jobs.training.config import Config
from jobs.training.data import TRUTH, LabeledImages, hash_of, join_held_out, join_labels
from jobs.training.held_out import held_out_images, holds_out, split_store
from jobs.training.initial_weights import start_from
from jobs.training.objective import build_targets
from jobs.training.optimizer import LENGTHLESS_SCHEDULES, build_optimizer
from models import networks
from models.losses import distillation
from models.objective import Objective
from tfpipeline.batches import (
    BatchFlags,
    Sizes,
    TrainingBatches,
    parse_augmentation,
    parse_mixing,
    parse_sizes,
    replays,
)
from tfpipeline.images import check_pixels, open_images, overlap
from tfpipeline.system import Console, FlagError, UserError, flags, require_utf8
from tfpipeline.training import (
    EpochFlags,
    GradientNorms,
    ProfileSteps,
    Reference,
    SavingFlags,
    Task,
    check_same_experiment,
    checkpoint,
    measure,
    predict_images,
    run_directory,
)
from tfpipeline.training.distributed import ALONE, Workers

# The instructions of a processor that choose the kernels, and the variables of the environment that do.
_VECTORS = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "i8mm", "sse", "ssse", "sve")
_SETTINGS = (
    *("DNNL_", "KMP_", "MKL_", "NVIDIA_TF32", "OMP_", "ONEDNN_", "TF_CUDNN_", "TF_DETERMINISTIC", "TF_DISABLE_MKL"),
    *("TF_ENABLE_", "TF_MKL_", "TF_NUM_", "TF_ONEDNN_", "TF_SET_ONEDNN", "TF_XLA_FLAGS", "XLA_FLAGS"),
)
# What tells one kind of processor from another: oneDNN cuts its work by the sizes of caches, too.
_KIND = ("vendor_id", "cpu family", "model", "stepping", "cpu implementer", "cpu part", "cache size")


def build_task(
    config: Config, replicas: int, console: Console, workers: Workers = ALONE, saved: dict | None = None
) -> Task:
    """The network, its data and its optimizer, all seeded.

    Args:
        config: the flags.
        replicas: how many devices share each batch.
        console: where notes go.
        workers: the processes that train together; this one gets its part of each batch.
        saved: the experiment of a run that goes on, which is validated as it began; None where one begins.

    Raises:
        UserError: a flag does not go with another or with what is read.
    """
    data, validation = open_data(config, console, is_new=saved is None)
    check_goes_together(config, data, validation)
    batches = build_batches(config.batches, data, build_targets(data, config.objective, console), console, workers)
    if batches.batch_size % replicas:
        raise FlagError(f"--batch-size {batches.batch_size} cannot be shared evenly by {replicas} devices")
    options = networks.parse_options(config.network.network, config.network.network_options)
    any_size = batches.sizes is not None and not batches.sizes.enlarge
    shape = (None, None, 3) if any_size else data.images.shape[1:]
    model = networks.build(config.network.network, shape, data.classes, **options)
    if saved is None:
        networks.adapt(model, data.images[networks.sample_to_adapt(data.images.shape)])
    initial = _initial_weights(config.network.init, model, data, saved or {}, console)
    objective = Objective(config.objective, model)
    callbacks = build_callbacks(config.epochs, config.saving, workers.is_chief)
    if config.saving.gradient_norms and workers.is_chief:
        callbacks.append(
            GradientNorms(pathlib.Path(config.saving.run, run_directory.GRADIENTS), objective, batches.at(0))
        )
    return Task(
        model=model,
        optimizer=build_optimizer(config.optimizer, config.epochs.epochs, batches.steps_per_epoch),
        loss=objective,
        measures={"training_top1" if data.answers is None else "training_agreement_top1": objective.hits},
        batches_from=batches.from_step,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=config.epochs.epochs,
        evaluate=None if validation is None else functools.partial(evaluate, model, validation, batches.sizes),
        callbacks=callbacks,
        monitor=config.epochs.monitor if config.epochs.best else None,
        experiment=whole_experiment(config, data, validation) | initial | {"replicas": replicas},
        machine=machine() | {"workers": workers.count},
        check=functools.partial(check_pixels, data.images),
        class_names=data.class_names,
    )


def _initial_weights(source, model, data, saved, console):
    """{"init": the hash of the weights that a network begins with}, which it then has; {} where they are random.

    A run that goes on has its own weights: that it began with others is refused, but where the source is gone by now.
    """
    if source is None:
        return {}
    if "init" in saved and not (pathlib.Path(source) / run_directory.MODEL).is_file():
        console.say(f"--init {source} is not there any more; the run goes on with its own weights")
        return {"init": saved["init"]}
    return {"init": start_from(source, model, data.class_names, console)}


def open_data(config: Config, console: Console, is_new: bool = False) -> tuple[LabeledImages, LabeledImages | None]:
    """(the images to learn from, the held-out ones or None).

    Args:
        config: the flags; `settle_hold_out` has settled whether a share of the images is held out.
        console: where notes go.
        is_new: whether a run begins with them, and so must not be validated on what it is trained on.

    Raises:
        UserError: they cannot be read, or do not go together.
    """
    store, labels, validation = open_images(config.images, console), config.labels.labels, config.validation
    if config.batches.overfit is not None:
        first = join_labels(store, labels, console)[: config.batches.overfit]
        return first, first
    replay = replays(config.batches.augment)
    if holds_out(validation):
        store, held_out = split_store(store, validation)
        console.say(
            f"--hold-out {validation.hold_out}: {len(held_out):,} of {len(store) + len(held_out):,} images are held "
            "out to validate on, and are not trained on"
        )
        data = join_labels(store, labels, console, replay)
        return data, join_held_out(held_out, None if labels == TRUTH else labels, data, console)
    data = join_labels(store, labels, console, replay)
    wanted = held_out_images(validation, config.images)
    if wanted is None:
        console.say("nothing is validated: there is no --validation-split and no --validation-images")
        return data, None
    held_out = open_images(wanted, console)
    if is_new and not validation.allow_overlap and (count := overlap(store, held_out)):
        raise UserError(
            f"{count:,} of {len(held_out):,} validation images have the pixels of images that are trained on, which "
            "would make the figures too good; give other held-out images, --hold-out 10%, or --allow-overlap"
        )
    return data, join_held_out(held_out, validation.validation_labels, data, console)


def build_batches(
    batch_flags: BatchFlags,
    data: LabeledImages,
    targets: dict[str, np.ndarray],
    console: Console,
    workers: Workers = ALONE,
) -> TrainingBatches:
    """The batches of a training; to learn images by heart they are not changed.

    Raises:
        FlagError: the changes are none.
    """
    by_heart, count = batch_flags.overfit is not None, len(data.images)
    size = min(batch_flags.batch_size, count)
    if size < batch_flags.batch_size and not by_heart:
        console.say(f"there are {count:,} images to learn from: a batch has these, not {batch_flags.batch_size:,}")
    return TrainingBatches(
        images=data.images,
        targets=targets,
        batch_size=size,
        seed=batch_flags.seed,
        augment=None if by_heart else parse_augmentation(batch_flags.augment, count),
        mix=None if by_heart else parse_mixing(batch_flags.mix),
        views=data.views,
        part=(workers.number, workers.count),
        sizes=None if batch_flags.sizes is None else parse_sizes(batch_flags.sizes, batch_flags.enlarge),
    )


def build_callbacks(epochs: EpochFlags, saving: SavingFlags, is_chief: bool) -> list[keras.callbacks.Callback]:
    """Keras's callbacks that the flags ask for; what only writes is left to the chief."""
    callbacks, run = [], pathlib.Path(saving.run)
    if saving.tensorboard or saving.profile:
        require_utf8(run, "give another --run, or leave out --tensorboard and --profile")
    if epochs.patience is not None:
        mode = "min" if epochs.monitor == "loss" else "max"
        callbacks.append(keras.callbacks.EarlyStopping(epochs.monitor, patience=epochs.patience, mode=mode))
    if saving.tensorboard and is_chief:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("--tensorboard needs a package: pip install -r requirements-extras.txt, or leave it out")
        callbacks.append(keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False))
    if saving.profile and is_chief:
        callbacks.append(ProfileSteps(run / "profile"))
    return callbacks


def check_goes_together(config: Config, data: LabeledImages, validation: LabeledImages | None) -> None:
    """Checks flags against each other and against what is known of the images.

    Raises:
        FlagError: names the flags.
    """
    monitor, objective = config.epochs.monitor, config.objective
    if config.epochs.is_watched and monitor == "validation_top1" and (validation is None or not validation.has_truth):
        raise FlagError("--monitor validation_top1: no truth of held-out images is known; give --validation-truth")
    if config.epochs.is_watched and monitor == "agreement_top1" and (validation is None or validation.answers is None):
        raise FlagError("--monitor agreement_top1: there are no --validation-labels to agree with; give them")
    if data.answers is None and (objective.targets == "hard" or objective.confidence_threshold):
        name = "--targets hard" if objective.targets == "hard" else "--confidence-threshold"
        raise FlagError(f"{name} is about a teacher's answers, and --labels truth has none; leave one of them out")
    if objective.targets == "hard" and objective.temperature != 1:
        raise FlagError(
            f"--temperature {objective.temperature} has no meaning with --targets hard; leave one of them out"
        )


def evaluate(model: keras.Model, validation: LabeledImages, sizes: Sizes | None = None) -> dict[str, float | None]:
    """The figures of the student on held-out images, under the names of the history.

    `validation_loss` is the divergence from the teacher's answers where these are known, else the cross-entropy against
    the truth, in nats.

    Args:
        model: the student.
        validation: the held-out images.
        sizes: that they are shown at; the figures are then the means over the sizes, and each has its accuracy, too.
    """
    if sizes is None:
        return _evaluate(model, validation)
    at_sizes = {
        size: _evaluate(model, dataclasses.replace(validation, images=sizes.show_all(validation.images, size)))
        for size in sizes.pixels
    }
    first, *others = at_sizes.values()
    means = {
        name: None if value is None else (value + sum(other[name] for other in others)) / len(at_sizes)
        for name, value in first.items()
    }
    return means | {f"validation_top1_at_{size}": figures["validation_top1"] for size, figures in at_sizes.items()}


def _evaluate(model, validation):
    reference = Reference(validation.truth, validation.answers, distillation)
    predictions = predict_images(model, validation.images, reference=reference)
    figures = measure(predictions, validation.truth, validation.teacher_top)
    cross_entropy, divergence = figures.pop("cross_entropy_nats"), figures["kl_nats"]
    return {
        "validation_loss": cross_entropy if divergence is None else divergence,
        **{f"validation_{name}" if name in ("top1", "top5") else name: value for name, value in figures.items()},
    }


def whole_experiment(config: Config, data: LabeledImages, validation: LabeledImages | None) -> dict:
    """All that decides the result: the flags that do, and hashes of what is read."""
    learned_truth = {"truth": hash_of([data.truth])} if config.objective.truth_weight else {}
    nothing = dict.fromkeys(("validation_images", "validation_truth", "validation_labels"))
    held_out = nothing if validation is None else validation.identity
    if holds_out(config.validation):  # A run that began before has no such name.
        held_out = held_out | {"hold_out": config.validation.hold_out}
    if config.batches.sizes is not None:
        held_out = held_out | {"sizes": config.batches.sizes, "enlarge": config.batches.enlarge}
    bias_factor = {} if config.optimizer.bias_factor == 1 else {"bias_factor": config.optimizer.bias_factor}
    return flags.experiment_of(config) | bias_factor | data.identity | learned_truth | held_out


def machine() -> dict:
    """All that decides the rounding of sums."""
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "processor": platform.machine(),
        "threads": len(os.sched_getaffinity(0)),
        "devices": sorted(device.device_type for device in tf.config.list_physical_devices()),
        "vectors": _vectors(),
        "kind": {name: value for name, value in _processor().items() if name in _KIND},
        "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)},
    }


def _processor() -> dict[str, str]:
    """What the system says of the first processor; {} where it does not."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _vectors():
    """The vector instructions of the processor, which choose the kernels."""
    found = _processor()
    words = (found.get("flags") or found.get("Features") or "").split()
    return sorted(word for word in set(words) if word.startswith(_VECTORS))


def has_flags(config: Config, saved: dict) -> bool:
    """Whether an experiment has the flags of a config, as far as they may not change.

    Args:
        config: the flags.
        saved: the experiment of a checkpoint, name -> value for JSON.
    """
    asked = json.loads(json.dumps(flags.experiment_of(config)))
    return all(saved.get(name) == asked[name] for name in asked.keys() - _may_change(config.optimizer.schedule))


def goes_on_from(config: Config, experiment: dict, saved: dict) -> bool:
    """Whether a run may go on from a checkpoint that it did not write itself.

    Args:
        config: the flags.
        experiment: what is asked for, for JSON.
        saved: the experiment of the checkpoint, name -> value for JSON.
    """
    asked = json.loads(json.dumps(experiment))
    differing = {name for name in {**saved, **asked} if saved.get(name) != asked.get(name)}
    # A run of more epochs has passed through the states of one of fewer; not the other way around.
    return differing <= _may_change(config.optimizer.schedule) and saved.get("epochs", 0) <= asked["epochs"]


def _may_change(schedule):
    """What may differ between a run and that which it goes on from."""
    return {"epochs"} if schedule in LENGTHLESS_SCHEDULES else set()


def check_snapshot(snapshot: checkpoint.Snapshot, task: Task, schedule: str, console: Console) -> None:
    """Refuses to go on with another experiment; says what another machine means.

    Args:
        snapshot: where to go on.
        task: what is asked for.
        schedule: of the learning rate; some may go on for more epochs.
        console: where notes go.

    Raises:
        UserError: what decides the result has changed; names it.
    """
    check_same_experiment(snapshot.config["experiment"], task.experiment, _may_change(schedule))
    saved = snapshot.config["machine"]
    changed = [
        f"{name} {saved[name]} is now {value}"
        for name, value in task.machine.items()
        if name in saved and saved[name] != value  # What an older run did not record is not known to differ.
    ]
    if changed:
        console.say(f"another machine ({', '.join(changed)}): the order is exact, the last bits are not promised")
