"""The training loop. It knows no teacher and no network, and may be killed at any instant.

The state of a training is (step, variables, what the callbacks remember, history): all of it is in every checkpoint,
and the batches are a pure function of the step. So going on from any checkpoint gives the bits of a run left alone.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfpipeline import checkpoint, run_directory, training_state
from tfpipeline.errors import UserError
from tfpipeline.progress import SILENT, Console
from tfpipeline.stopping import StopRequest

SECONDS_PER_CALL = 0.5
MOST_STEPS_PER_CALL = 64


@dataclasses.dataclass(frozen=True)
class SaveEvery:
    """How often a checkpoint is saved, beside the end of every epoch.

    Attributes:
        steps: after so many training steps, or None.
        seconds: after so many seconds, or None.
    """

    steps: int | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be learned, and from what.

    Attributes:
        model: keras.Model, images -> logits.
        optimizer: a keras optimizer.
        loss: (logits, batch) -> the loss of each sample, (B,).
        batches_from: step -> tf.data.Dataset of the endless batches from this step on, dicts with "images".
        steps_per_epoch: number of steps in an epoch.
        epochs: number of epochs.
        evaluate: () -> figures by name, called at the end of an epoch; or None.
        callbacks: keras callbacks, called as `model.fit` does; what they remember is part of the checkpoints.
        experiment: all that decides the result, for JSON; going on with another one is refused.
        machine: all that decides the rounding, for JSON; going on with another one is said aloud.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss: Callable
    batches_from: Callable[[int], tf.data.Dataset]
    steps_per_epoch: int
    epochs: int
    evaluate: Callable[[], dict] | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    experiment: dict = dataclasses.field(default_factory=dict)
    machine: dict = dataclasses.field(default_factory=dict)


class Trainer:
    """Trains in a run directory, from its newest whole checkpoint or from the beginning.

    Args:
        task: what is to be learned.
        directory: the run directory; the caller holds its lock.
        save_every: how often to save, beside the end of every epoch.
        most_steps_per_call: steps that one call of the compiled function takes at most; the result does not depend
            on it.
        console: where to report.
    """

    def __init__(
        self,
        task: Task,
        directory: pathlib.Path,
        save_every: SaveEvery = SaveEvery(),
        most_steps_per_call: int = MOST_STEPS_PER_CALL,
        console: Console = SILENT,
    ):
        self.task, self.directory, self.save_every, self.console = task, directory, save_every, console
        self.step, self.loss_sum, self.history = 0, 0.0, []
        self.steps_taken, self.seconds_in_steps = 0, 0.0
        task.optimizer.build(task.model.trainable_variables)
        task.model.compile(optimizer=task.optimizer)
        self._variables = training_state.named_variables(task.model, task.optimizer)
        self._callbacks = keras.callbacks.CallbackList(
            list(task.callbacks), model=task.model, epochs=task.epochs, steps=task.steps_per_epoch, verbose=0
        )
        self._most_steps_per_call = 1 if any(map(_watches_steps, task.callbacks)) else most_steps_per_call
        self._take_steps = _compiled_steps(task)
        self._saved_step, self._saved_at = None, time.monotonic()

    def run(self, snapshot: checkpoint.Snapshot | None = None) -> list[dict]:
        """Trains to the end.

        Args:
            snapshot: where to go on; None begins.

        Returns:
            The history: a dict of figures for every epoch.

        Raises:
            Stopped: SIGTERM or SIGINT came, and the state is saved.
            UserError: the loss is not finite; names the last good checkpoint. Or the snapshot does not fit.
        """
        self._callbacks.on_train_begin()
        if snapshot is not None:
            self._restore(snapshot)
        with StopRequest() as stop, self._bar() as advance:
            batches = iter(self.task.batches_from(self.step))
            try:
                self._train(batches, stop, advance)
            finally:
                # A Python thread that prepares a batch while the interpreter ends would hang it.
                del batches
        self._callbacks.on_train_end()
        return self.history

    @property
    def finished(self) -> bool:
        """Whether the last epoch is closed, or a callback ended the training."""
        return len(self.history) >= self.task.epochs or self.task.model.stop_training

    def weights_sha256(self) -> str:
        """The sha256 over the model's variables, bit by bit."""
        model = {name: variable for name, variable in self._variables.items() if name.startswith("model/")}
        return checkpoint.sha256_of_arrays(training_state.arrays_of(model))

    def _train(self, batches, stop, advance):
        while not self.finished:
            epoch_start = len(self.history) * self.task.steps_per_epoch
            self._callbacks.on_epoch_begin(len(self.history))
            self._take_epoch(batches, epoch_start, stop, advance)
            self._close_epoch()
            self._raise_if_stopped(stop)

    def _take_epoch(self, batches, epoch_start, stop, advance):
        epoch_end, steps_per_call = epoch_start + self.task.steps_per_epoch, 1
        while self.step < epoch_end:
            start = time.monotonic()
            steps = min(steps_per_call, epoch_end - self.step, self._steps_to_save())
            self._advance(batches, steps)
            seconds = time.monotonic() - start
            self.steps_taken, self.seconds_in_steps = self.steps_taken + steps, self.seconds_in_steps + seconds
            advance(steps, loss=f"{self.loss_sum / (self.step - epoch_start):.4f}")
            if seconds < SECONDS_PER_CALL / 2:
                steps_per_call = min(2 * steps_per_call, self._most_steps_per_call)
            if stop.requested or (self._save_is_due() and self.step < epoch_end):
                self._save()
            self._raise_if_stopped(stop)

    def _raise_if_stopped(self, stop):
        stop.raise_if_requested(f"step {self.step} of {self._total_steps} is saved in {self.directory}")

    def _advance(self, batches, steps):
        """Takes so many steps; the sum of their losses is formed in their order, however they are split into calls."""
        self._callbacks.on_train_batch_begin(self.step % self.task.steps_per_epoch)
        losses = self._take_steps(batches, tf.constant(steps)).numpy().tolist()
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._refuse(f"the loss of step {self.step + number} is {loss}")
            self.loss_sum += loss
        self.step += steps
        self._callbacks.on_train_batch_end((self.step - 1) % self.task.steps_per_epoch, {"loss": losses[-1]})

    def _refuse(self, reason):
        found = checkpoint.newest_first(self.directory / run_directory.CHECKPOINTS)
        last = f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"
        raise UserError(f"{reason}; {last}; begin another --run with a lower --learning-rate or with --clip-norm")

    def _close_epoch(self):
        epoch = len(self.history)
        figures = self.task.evaluate() if self.task.evaluate else {}
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            "learning_rate": float(self.task.optimizer.learning_rate),
            "loss": self.loss_sum / self.task.steps_per_epoch,
            **figures,
        }
        self.history.append(row)
        self.loss_sum = 0.0
        self._callbacks.on_epoch_end(epoch, {name: value for name, value in row.items() if value is not None})
        self._save()
        run_directory.write_history(self.directory, self.history)
        words = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float))
        self.console.say(f"epoch {epoch + 1} of {self.task.epochs}: {words}")

    def _save(self):
        if self._saved_step == (self.step, len(self.history)):
            return
        plain, arrays = training_state.state_of_callbacks(self.task.callbacks)
        checkpoints = self.directory / run_directory.CHECKPOINTS
        checkpoint.save(
            checkpoints,
            self.step,
            training_state.arrays_of(self._variables) | arrays,
            {"experiment": self.task.experiment, "machine": self.task.machine},
            {
                "loss_sum": self.loss_sum,
                "history": self.history,
                "callbacks": plain,
                "stopped_by_callback": bool(self.task.model.stop_training),
            },
        )
        checkpoint.prune(checkpoints)
        self._saved_step, self._saved_at = (self.step, len(self.history)), time.monotonic()

    def _restore(self, snapshot):
        of_callbacks = {name: array for name, array in snapshot.arrays.items() if name.startswith("callback/")}
        training_state.assign(
            self._variables, {name: array for name, array in snapshot.arrays.items() if name not in of_callbacks}
        )
        training_state.restore_callbacks(self.task.callbacks, snapshot.state["callbacks"], of_callbacks)
        self.step, self.loss_sum = snapshot.step, snapshot.state["loss_sum"]
        self.history = list(snapshot.state["history"])
        self.task.model.stop_training = snapshot.state["stopped_by_callback"]
        self._saved_step = (self.step, len(self.history))
        run_directory.write_history(self.directory, self.history)
        self.console.say(f"going on at step {self.step} of {self._total_steps} from {snapshot.path}")

    def _save_is_due(self):
        steps, seconds = self.save_every.steps, self.save_every.seconds
        return (steps is not None and self.step % steps == 0) or (
            seconds is not None and time.monotonic() - self._saved_at >= seconds
        )

    def _steps_to_save(self):
        steps = self.save_every.steps
        return self._total_steps if steps is None else steps - self.step % steps

    @property
    def _total_steps(self):
        return self.task.epochs * self.task.steps_per_epoch

    def _bar(self):
        return self.console.bar("training", self._total_steps, "step", self.step)


def _compiled_steps(task):
    """A function (iterator, number of steps) -> their losses; one compiled graph for any number."""

    def take_step(batch):
        with tf.GradientTape() as tape:
            losses = task.loss(task.model(batch["images"], training=True), batch)
            loss = tf.reduce_mean(losses) + tf.add_n([tf.zeros(()), *task.model.losses])
        variables = task.model.trainable_variables
        task.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    @tf.function
    def take_steps(batches, steps):
        losses = tf.TensorArray(tf.float32, size=steps)
        for number in tf.range(steps):
            losses = losses.write(number, take_step(next(batches)))
        return losses.stack()

    return take_steps


def _watches_steps(callback):
    """Whether a callback acts on single steps, so that several must not be taken at once."""
    return any(
        getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name)
        for name in ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    )
