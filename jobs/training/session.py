"""One session of a training: from the lock on the run directory to model.keras."""

import contextlib
import pathlib

import keras
import tensorflow as tf

from jobs.training import task as tasks
from jobs.training.config import Config
from jobs.training.held_out import settle_hold_out
from jobs.training.model_file import write_model
from models.networks import parameter_count
from tfpipeline.system import Console, flags
from tfpipeline.training import (
    Diverged,
    SaveEvery,
    Saver,
    Task,
    Trainer,
    checkpoint,
    fetch_from_mirror,
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
    keras.utils.set_random_seed(config.batches.seed % 2**32)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.devices.precision)
    console, directory = Console(config.quiet), pathlib.Path(config.saving.run)
    mirror = None if config.saving.mirror is None else pathlib.Path(config.saving.mirror)
    saver = Saver(directory / run_directory.CHECKPOINTS, every, mirror, console.say)
    if config.devices.precision != "float32" and (note := note_on_bfloat16()):
        console.say(note)
    if cluster:
        console.say(f"this is {cluster.name(cluster.number)}; waiting until all {len(cluster.addresses)} are there")
    with connect_workers(cluster) as workers, _lock(directory, workers):
        snapshot = None
        if workers.is_chief:
            if mirror is not None and config.saving.resume:
                fetch_from_mirror(mirror, saver.directory, console.say)
            snapshot = run_directory.newest_snapshot(directory, config.saving.resume, console.say)
        snapshot = run_directory.broadcast_snapshot(workers, snapshot)
        config = settle_hold_out(config, snapshot)
        team = Team(workers, build_strategy(config.devices.strategy, workers))
        with team.strategy.scope():
            replicas = team.strategy.num_replicas_in_sync
            task = tasks.build_task(config, replicas, console, workers, is_new=snapshot is None)
        workers.check_same(task.experiment, "start all workers with the same flags, images and labels")
        if snapshot is not None:
            tasks.check_snapshot(snapshot, task, config.optimizer.schedule, console)
        if workers.is_chief:
            said = {"experiment": task.experiment, "machine": task.machine, "class_names": task.class_names}
            run_directory.write_config(directory, {"flags": flags.flat(config), **said})
        return _finish(task, Trainer(task, directory, saver, console=console, team=team), snapshot, config)


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
    trainer.finish()
    if is_chief:
        write_model(task.model, trainer.directory)
    best = next((row for row in history if row["step"] == trainer.best_step), history[-1])
    images = trainer.steps_taken * config.batches.batch_size
    figures = {
        "steps": trainer.step,
        "epochs": len(history),
        "parameters": parameter_count(task.model),
        "seconds": round(trainer.clock.seconds, 3),
        "images_per_second": round(images / trainer.seconds_in_steps, 1) if images else None,
        **{name: best.get(name) for name in FIGURES},
        "weights_sha256": trainer.weights_sha256(),
        "run": config.saving.run,
    }
    if is_chief:
        run_directory.write_figures(trainer.directory, figures)
    return figures
