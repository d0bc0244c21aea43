"""The training loop. It knows no teacher and no network, and may be killed at any instant.

The state of a training is (step, variables, what the callbacks remember, history): all of it is in every checkpoint,
and the batches are a pure function of the step. So going on from any checkpoint gives the bits of a run left alone.
"""

import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from tfpipeline.system import SILENT, Console, Stopped, StopRequest, UserError
from tfpipeline.training import checkpoint, run_directory
from tfpipeline.training.clock import Clock
from tfpipeline.training.distributed import Silent, Team
from tfpipeline.training.saver import Saver
from tfpipeline.training.state import (
    arrays_of,
    assign,
    averaged_weights,
    named_variables,
    restore_callbacks,
    state_of_callbacks,
)
from tfpipeline.training.step import compile_steps, distribute_batches

SECONDS_PER_CALL = 0.5
MOST_STEPS_PER_CALL = 64


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be learned, and from what.

    Attributes:
        model: keras.Model, images -> logits.
        optimizer: a keras optimizer.
        loss: (logits, batch) -> the loss of each sample, (B,).
        measures: name -> (logits, batch) -> another figure of each sample, (B,), whose mean over an epoch, as the
            samples were seen, stands in the history; nothing is learned from it.
        batches_from: step -> tf.data.Dataset of the endless batches from this step on, dicts with "images"; of several
            workers each has its own part of every batch.
        steps_per_epoch: number of steps in an epoch.
        epochs: number of epochs.
        evaluate: () -> figures by name, called at the end of an epoch; or None.
        callbacks: keras callbacks, called as `model.fit` does; what they remember is part of the checkpoints.
        monitor: the figure that tells the best epoch, whose checkpoint is kept; None keeps only the newest.
        experiment: all that decides the result, for JSON; going on with another one is refused.
        machine: all that decides the rounding, for JSON; going on with another one is said aloud.
        check: raises UserError where what the batches are read from is damaged; asked when a batch fails.
        class_names: of the classes that the logits are of, in their order; () where nobody says.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss: Callable
    batches_from: Callable[[int], tf.data.Dataset]
    steps_per_epoch: int
    epochs: int
    measures: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    evaluate: Callable[[], dict] | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    monitor: str | None = None
    experiment: dict = dataclasses.field(default_factory=dict)
    machine: dict = dataclasses.field(default_factory=dict)
    check: Callable[[], None] | None = None
    class_names: tuple[str, ...] = ()


class Diverged(UserError):
    """The loss is not finite any more.

    Attributes:
        step: the first whose loss is not.
    """

    def __init__(self, text: str, step: int):
        super().__init__(text)
        self.step = step


class Trainer:
    """Trains in a run directory, from its newest whole checkpoint or from the beginning.

    Args:
        task: what is to be learned.
        directory: the run directory; the caller holds its lock where it is the chief's.
        saver: of its checkpoints.
        most_steps_per_call: steps that one call of the compiled function takes at most; the result does not depend
            on it.
        console: where to report.
        team: who trains together; a process on its own if None.
    """

    def __init__(
        self,
        task: Task,
        directory: pathlib.Path,
        saver: Saver,
        most_steps_per_call: int = MOST_STEPS_PER_CALL,
        console: Console = SILENT,
        team: Team | None = None,
    ):
        self.task, self.directory, self.saver, self.console = task, directory, saver, console
        self.step, self.loss_sum = 0, 0.0
        # None: the epoch began in a program that did not measure.
        self.sums: dict[str, float | None] = dict.fromkeys(task.measures, 0.0)
        self.history: list[dict] = []
        self.steps_taken, self.seconds_in_steps = 0, 0.0
        self.clock = Clock(directory)
        self.team = team or Team()
        self._strategy, self._workers = self.team.strategy, self.team.workers
        with self._strategy.scope():
            task.optimizer.build(task.model.trainable_variables)
            task.model.compile(optimizer=task.optimizer)
        self._variables = named_variables(task.model, task.optimizer)
        self._callbacks = keras.callbacks.CallbackList(
            list(task.callbacks), model=task.model, epochs=task.epochs, steps=task.steps_per_epoch, verbose=0
        )
        self._most_steps_per_call = 1 if any(map(_watches_steps, task.callbacks)) else most_steps_per_call
        self._take_steps = compile_steps(task, self._strategy)
        self._saved = self._batches = None

    def run(self, snapshot: checkpoint.Snapshot | None = None) -> list[dict]:
        """Trains to the end.

        Args:
            snapshot: where to go on; None begins.

        Returns:
            The history: a dict of figures for every epoch.

        Raises:
            Stopped: SIGTERM or SIGINT came, or another worker does not answer, and the state is saved.
            Diverged: the loss is not finite; names the last good checkpoint.
            UserError: the snapshot does not fit, or another worker is gone.
        """
        self._callbacks.on_train_begin()
        if snapshot is not None:
            self._restore(snapshot)
        with StopRequest() as stop, self._bar() as advance:
            self._batches = iter(distribute_batches(self.task.batches_from(self.step), self._strategy))
            try:
                self._train(stop, advance)
            except Silent as silence:
                self._stop_without(silence)
            finally:
                # A thread that prepares a batch while the interpreter ends would hang it, and the frames of an
                # exception live until then: they hold the trainer, which lets go of the batches here.
                self._batches = None
        self._callbacks.on_train_end()
        return self.history

    @property
    def finished(self) -> bool:
        """Whether the last epoch is closed, or a callback ended the training."""
        return len(self.history) >= self.task.epochs or self.task.model.stop_training

    @property
    def best_step(self) -> int | None:
        """The step at the end of the epoch with the best figure so far; None when nothing is monitored."""
        known = [row for row in self.history if row.get(self.task.monitor) is not None]
        if not known:
            return None
        best = min if self.task.monitor == "loss" else max
        return best(known, key=lambda row: row[self.task.monitor])["step"]

    def finish(self) -> None:
        """Gives the model its final weights: of the best epoch if one is monitored, averaged if the optimizer averages.

        Raises:
            UserError: the checkpoint of the best epoch is damaged.
        """
        if self.best_step not in (None, self.step):
            self._load_best()
        if self.task.optimizer.use_ema:
            self.task.optimizer.finalize_variable_values(self.task.model.trainable_variables)

    def weights_sha256(self) -> str:
        """The sha256 over the model's variables, bit by bit."""
        model = {name: variable for name, variable in self._variables.items() if name.startswith("model/")}
        return checkpoint.sha256_of_arrays(arrays_of(model))

    def _train(self, stop, advance):
        while not self.finished:
            epoch_start = len(self.history) * self.task.steps_per_epoch
            self._callbacks.on_epoch_begin(len(self.history))
            self._take_epoch(epoch_start, stop, advance)
            self._close_epoch()
            self._stop_if_requested(stop)

    def _take_epoch(self, epoch_start, stop, advance):
        epoch_end, steps_per_call = epoch_start + self.task.steps_per_epoch, 1
        while self.step < epoch_end:
            start = time.monotonic()
            steps = self.saver.steps_until_due(self.step, min(steps_per_call, epoch_end - self.step))
            steps = self._workers.broadcast(steps)
            self._advance(steps)
            seconds = time.monotonic() - start
            self.steps_taken, self.seconds_in_steps = self.steps_taken + steps, self.seconds_in_steps + seconds
            advance(steps, loss=f"{self.loss_sum / (self.step - epoch_start):.4f}")
            if seconds < SECONDS_PER_CALL / 2:
                steps_per_call = min(2 * steps_per_call, self._most_steps_per_call)
            if self.saver.is_due(self.step) and self.step < epoch_end:
                self._save()
            self._stop_if_requested(stop)

    def _load_best(self):
        best = None
        if self._workers.is_chief:
            copies = self.saver.copies_of_step(self.best_step, self.task.experiment)
            best = run_directory.snapshot_of_step(self.directory, self.best_step, self.console.say, copies)
        snapshot = run_directory.broadcast_snapshot(self._workers, best)
        assign(self._variables, {name: snapshot.arrays[name] for name in self._variables})
        self.console.say(f"the best epoch is that of step {self.best_step}")

    def _stop_if_requested(self, stop):
        """Saves and ends the work when a signal has come to any worker; all of them hear of it after the same step."""
        if any(self._workers.exchange(stop.requested)):
            self._save()
            place = self._workers.broadcast(str(self.directory))
            raise Stopped(
                f"stopped by {stop.signal_name or 'a signal to another worker'}; step {self.step} of "
                f"{self._total_steps} is saved in {place} for --resume; run the same command again to go on"
            )

    def _stop_without(self, silence):
        """Saves and ends the work of all who answer, between two steps; without the chief nobody can save."""
        if not self._workers.is_chief:
            raise silence
        self._save()
        reason = (
            f"stopped, as {silence}; step {self.step} of {self._total_steps} is saved in {self.directory} for "
            "--resume; end that worker, and run the same command again on all to go on"
        )
        self._workers.stop(reason)
        raise Stopped(reason) from silence

    def _advance(self, steps):
        """Takes so many steps; their figures are summed in their order, however they are split into calls."""
        self._callbacks.on_train_batch_begin(self.step % self.task.steps_per_epoch)
        try:
            figures = self._take_steps(self._batches, tf.constant(steps)).numpy().tolist()
        except tf.errors.OpError:  # As which TensorFlow passes on whatever the making of a batch raised.
            if self.task.check is not None:
                self.task.check()
            raise
        for number, (loss, *measured) in enumerate(figures):
            if not math.isfinite(loss):
                self._refuse(self.step + number, loss)
            self.loss_sum += loss
            self.sums = {
                name: None if total is None else total + value
                for (name, total), value in zip(self.sums.items(), measured, strict=True)
            }
        self.step += steps
        self._callbacks.on_train_batch_end((self.step - 1) % self.task.steps_per_epoch, {"loss": figures[-1][0]})

    def _refuse(self, step, loss):
        reason = f"the loss of step {step} is {loss}"
        found = checkpoint.newest_first(self.directory / run_directory.CHECKPOINTS)
        last = f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"
        with contextlib.suppress(Silent):  # What has diverged is not worth saving.
            last = self._workers.broadcast(last)
        raise Diverged(f"{reason}; {last}; begin another --run with a lower --learning-rate or with --clip-norm", step)

    def _close_epoch(self):
        epoch = len(self.history)
        # A figure that is no number is unknown, in history.csv as in JSON.
        figures = {
            name: None if value is not None and not math.isfinite(value) else value
            for name, value in self._workers.broadcast(self._evaluate()).items()
        }
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            "learning_rate": float(self.task.optimizer.learning_rate),
            "loss": self.loss_sum / self.task.steps_per_epoch,
            **{name: None if total is None else total / self.task.steps_per_epoch for name, total in self.sums.items()},
            **figures,
        }
        self.history.append(row)
        self.loss_sum, self.sums = 0.0, dict.fromkeys(self.sums, 0.0)
        self._callbacks.on_epoch_end(epoch, {name: value for name, value in row.items() if value is not None})
        self._save()
        self._write_history()
        words = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float))
        self.console.say(f"epoch {epoch + 1} of {self.task.epochs}: {words}")

    def _evaluate(self):
        """The figures at the end of an epoch; {} where another worker sees to them."""
        if self._workers.count > 1:
            weights = {f"the weights after step {self.step}": self.weights_sha256()}
            self._workers.check_same(weights, "use machines of one kind, and go on with --resume")
        if self.task.evaluate is None or not self._workers.is_chief:
            return {}
        with averaged_weights(self.task.model, self.task.optimizer):
            return self.task.evaluate()

    def _write_history(self):
        if self._workers.is_chief:
            run_directory.write_history(self.directory, self.history)

    def _save(self):
        if not self._workers.is_chief or self._saved == (self.step, len(self.history)):
            return
        plain, arrays = state_of_callbacks(self.task.callbacks)
        state = {
            "loss_sum": self.loss_sum,
            "sums": self.sums,
            "history": self.history,
            "callbacks": plain,
            "stopped_by_callback": bool(self.task.model.stop_training),
        }
        config = {"experiment": self.task.experiment, "machine": self.task.machine}
        arrays = arrays_of(self._variables) | arrays
        self.saver.save(self.step, arrays, config, state, self.best_step)
        self.clock.save()
        self.saver.copy(self.task.experiment, (self.clock.path,))
        self._saved = (self.step, len(self.history))

    def _restore(self, snapshot):
        of_callbacks = {name: array for name, array in snapshot.arrays.items() if name.startswith("callback/")}
        assign(self._variables, {name: array for name, array in snapshot.arrays.items() if name not in of_callbacks})
        restore_callbacks(self.task.callbacks, snapshot.state["callbacks"], of_callbacks)
        self.step, self.loss_sum = snapshot.step, snapshot.state["loss_sum"]
        self.history = list(snapshot.state["history"])
        if self.step > len(self.history) * self.task.steps_per_epoch:
            self.sums = {name: snapshot.state.get("sums", {}).get(name) for name in self.sums}
        self.task.model.stop_training = snapshot.state["stopped_by_callback"]
        self._saved = (self.step, len(self.history))
        self._write_history()
        if self._workers.is_chief:  # The process before may have ended between saving a checkpoint and copying it.
            self.saver.copy(self.task.experiment, (self.clock.path,))
        self.console.say(f"going on at step {self.step} of {self._total_steps} from {snapshot.path}")

    @property
    def _total_steps(self):
        return self.task.epochs * self.task.steps_per_epoch

    def _bar(self):
        return self.console.bar("training", self._total_steps, "step", self.step)


def _watches_steps(callback):
    """Whether a callback acts on single steps, so that several must not be taken at once."""
    return any(
        getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name)
        for name in ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    )
