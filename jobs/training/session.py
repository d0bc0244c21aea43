"""One session of a training: from the lock on the run directory to model.keras."""

import contextlib
import functools
import pathlib

import keras
import tensorflow as tf

from jobs.training import task as tasks
from jobs.training.config import Config
from jobs.training.held_out import settle_hold_out
from jobs.training.model_card import describe, write_card
from jobs.training.model_file import write_model
from models.networks import parameter_count
from tfpipeline.system import Console, StopRequest, UserError, flags
from tfpipeline.training import (
    Diverged,
    Mirror,
    SaveEvery,
    Saver,
    Task,
    Trainer,
    checkpoint,
    note_on_bfloat16,
    run_directory,
)
from tfpipeline.training.distributed import Cluster, Team, build_strategy, connect_workers

FIGURES = (
    *("validation_top1", "validation_top5", "agreement_top1", "agreement_top5", "kl_nats"),
    *("teacher_top1", "relative_top1"),
)


def train(config: Config, every: SaveEvery, cluster: Cluster | None) -> dict:
    """Trains to the last epoch, writes model.keras, and returns the figures.

    Args:
        config: the flags.
        every: how often to save.
        cluster: the processes that train together; None for one on its own.

    Raises:
        UserError: the flags, the images, the labels and the run do not go together; or the loss is not finite.
        Stopped: a signal came, and everything is saved.
    """
    # Order of additions: without it the threads of the machine decide about the last bits.
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.devices.precision)
    console, directory = Console(config.quiet), pathlib.Path(config.saving.run)
    mirror = None if config.saving.mirror is None else Mirror(pathlib.Path(config.saving.mirror), console.say)
    saver = Saver(directory / run_directory.CHECKPOINTS, every, mirror, console.say)
    if config.devices.precision != "float32" and (note := note_on_bfloat16()):
        console.say(note)
    if cluster:
        console.say(f"this is {cluster.name(cluster.number)}; waiting until all {len(cluster.addresses)} are there")
    with connect_workers(cluster, console.say) as workers, _lock(directory, workers):
        snapshot = None
        if workers.is_chief:
            snapshot = _newest(directory, mirror, config, console)
        snapshot = run_directory.broadcast_snapshot(workers, snapshot)
        team = Team(workers, build_strategy(config.devices.strategy, workers))
        known, asked = snapshot, config
        config, task = _build(asked, known, team, console)
        if workers.is_chief and mirror is not None and config.saving.resume:
            mirror.fetch(saver.directory, functools.partial(tasks.goes_on_from, config, task.experiment))
            snapshot = run_directory.newest_snapshot(directory, True, console.say)
        if workers.broadcast(mirror is not None):
            snapshot = run_directory.broadcast_snapshot(workers, snapshot)
        if snapshot is None and known is not None:  # It was of a run with the same flags that learned something else.
            config, task = _build(asked, None, team, console)
        workers.check_same(task.experiment, "start all workers with the same flags, images and labels")
        workers.limit_waiting(config.devices.worker_timeout)
        if snapshot is not None:
            tasks.check_snapshot(snapshot, task, config.optimizer.schedule, console)
        if workers.is_chief:
            said = {"experiment": task.experiment, "machine": task.machine, "class_names": task.class_names}
            run_directory.write_config(directory, {"flags": flags.flat(config), **said})
        return _finish(task, Trainer(task, directory, saver, console=console, team=team), snapshot, config)


def _newest(directory, mirror, config, console):
    """The newest snapshot of a run, or of one in the mirror that has its flags; what it learned from is not known yet.

    It tells how the run began. The checkpoints of the mirror are brought back once the task is known.
    """
    if mirror is None or not config.saving.resume:
        return run_directory.newest_snapshot(directory, config.saving.resume, console.say)
    try:
        own = run_directory.newest_snapshot(directory, True, lambda line: None)
    except UserError:  # All of them are damaged. Where the mirror has none either, that is said after looking there.
        own = None
    return own or mirror.newest(functools.partial(tasks.has_flags, config))


def _build(config, snapshot, team, console):
    """(the config with what is held out settled, the task) of a run that goes on from a snapshot, or begins."""
    keras.utils.set_random_seed(config.batches.seed % 2**32)
    config = settle_hold_out(config, snapshot)
    with team.strategy.scope():
        replicas = team.strategy.num_replicas_in_sync
        saved = None if snapshot is None else snapshot.config["experiment"]
        return config, tasks.build_task(config, replicas, console, team.workers, saved)


def _lock(directory, workers):
    """A context in which the run is this process's, where it is its to write."""
    return run_directory.lock_run(directory) if workers.is_chief else contextlib.nullcontext()


def _finish(task: Task, trainer: Trainer, snapshot: checkpoint.Snapshot | None, config: Config) -> dict:
    """Trains, writes model.keras and figures.json, and returns the figures."""
    is_chief = trainer.team.workers.is_chief
    try:
        history = trainer.run(snapshot)
    except Diverged as error:
        if is_chief:
            run_directory.write_figures(trainer.directory, {"diverged_at_step": error.step, "problem": str(error)})
        raise
    with StopRequest() as stop:  # All that is left takes no time worth losing it for.
        trainer.finish()
        if is_chief:
            write_model(task.model, trainer.directory, describe(trainer.directory, task.model))
        figures = _figures(task, trainer, history, config)
        if is_chief:
            run_directory.write_figures(trainer.directory, figures)
            write_card(trainer.directory, task.model, trainer.directory)
        stop.raise_if_requested("the training is done, and its network and figures are written")
    return figures


def _figures(task, trainer, history, config):
    """What the training prints last."""
    best = next((row for row in history if row["step"] == trainer.best_step), history[-1])
    images = trainer.steps_taken * config.batches.batch_size
    return {
        "steps": trainer.step,
        "epochs": len(history),
        "parameters": parameter_count(task.model),
        "seconds": round(trainer.clock.seconds, 3),
        "images_per_second": round(images / trainer.seconds_in_steps, 1) if images else None,
        **{name: best.get(name) for name in FIGURES},
        **{name: value for name, value in best.items() if name.startswith("validation_top1_at_")},
        "weights_sha256": trainer.weights_sha256(),
        "run": config.saving.run,
    }
