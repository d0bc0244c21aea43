import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import toy_training as toy
from tfpipeline.system.errors import Stopped, UserError
from tfpipeline.training import checkpoint, run_directory
from tfpipeline.training.state import averaged_weights
from tfpipeline.training.trainer import Trainer


def state_of(directory):
    """All arrays, callbacks' values and the history of the newest checkpoint, and history.csv."""
    snapshot = checkpoint.load_newest(directory / run_directory.CHECKPOINTS)
    arrays = {name: array.tobytes() for name, array in snapshot.arrays.items()}
    return snapshot.step, arrays, snapshot.state, (directory / run_directory.HISTORY).read_text()


def patience():
    return [keras.callbacks.EarlyStopping("loss", patience=20, restore_best_weights=True)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone, with a checkpoint at every step."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "prune", lambda directory, **_: [])
        trainer = toy.train(directory, epochs=2, callbacks=patience())
    return directory, trainer


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 2 * toy.STEPS_PER_EPOCH + 1, 3))
def test_going_on_from_any_step_ends_in_the_same_state(whole, tmp_path, step):
    directory, trainer = whole
    (tmp_path / run_directory.CHECKPOINTS).mkdir()
    for path in checkpoint.newest_first(directory / run_directory.CHECKPOINTS):
        if checkpoint.step_of(path) == step:
            (tmp_path / run_directory.CHECKPOINTS / path.name).write_bytes(path.read_bytes())
    resumed = toy.train(tmp_path, save_steps=50, epochs=2, callbacks=patience())
    assert resumed.weights_sha256() == trainer.weights_sha256()
    assert state_of(tmp_path) == state_of(directory)


def test_checkpoints_hold_dropout_statistics_averages_best_and_patience(whole):
    snapshot = checkpoint.load_newest(whole[0] / run_directory.CHECKPOINTS)
    names = {name.split("/")[-1] for name in snapshot.arrays}
    assert {"kernel", "moving_mean", "seed_generator_state", "iteration"} <= names
    assert any("average" in name for name in names)
    assert {"best", "wait", "best_epoch"} <= snapshot.state["callbacks"]["EarlyStopping-0"].keys()
    assert any(name.startswith("callback/EarlyStopping-0/best_weights/") for name in snapshot.arrays)


@pytest.mark.slow
@pytest.mark.parametrize("most_steps_per_call", [1, 7, 64])
def test_steps_per_call_do_not_change_a_bit(whole, tmp_path, most_steps_per_call):
    trainer = toy.train(
        tmp_path, save_steps=50, epochs=2, callbacks=patience(), most_steps_per_call=most_steps_per_call
    )
    assert trainer.weights_sha256() == whole[1].weights_sha256()
    assert trainer.history == whole[1].history


@pytest.mark.slow
def test_it_takes_the_steps_that_a_plain_loop_takes(tmp_path):
    trainer = toy.train(tmp_path, epochs=1)
    task, losses = toy.task(), []
    task.optimizer.build(task.model.trainable_variables)
    for batch in task.batches_from(0).take(toy.STEPS_PER_EPOCH):
        with tf.GradientTape() as tape:
            logits = task.model(batch["images"], training=True)
            loss = tf.reduce_mean(toy.cross_entropy(logits, batch)) + tf.add_n(task.model.losses)
        variables = task.model.trainable_variables
        task.optimizer.apply(tape.gradient(loss, variables), variables)
        losses.append(float(loss))
    task.optimizer.finalize_variable_values(task.model.trainable_variables)
    assert trainer.history[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    for ours, theirs in zip(trainer.task.model.variables, task.model.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is(tmp_path):
    first = toy.train(tmp_path, epochs=1)
    before = state_of(tmp_path)
    again = toy.train(tmp_path, epochs=1)
    assert again.steps_taken == 0
    assert again.weights_sha256() == first.weights_sha256() and state_of(tmp_path) == before


@pytest.mark.slow
def test_more_epochs_go_on_from_the_last_one(whole, tmp_path):
    toy.train(tmp_path, epochs=1, callbacks=patience())
    longer = toy.train(tmp_path, epochs=2, callbacks=patience())
    assert longer.steps_taken == toy.STEPS_PER_EPOCH
    assert longer.history == whole[1].history


@pytest.mark.slow
def test_history_has_no_rows_beyond_the_checkpoint(whole, tmp_path):
    toy.train(tmp_path, epochs=2, callbacks=patience())
    for path in checkpoint.newest_first(tmp_path / run_directory.CHECKPOINTS):
        if checkpoint.step_of(path) > 18:
            path.unlink()
    trainer = toy.trainer(tmp_path, epochs=2, callbacks=patience())
    snapshot = run_directory.newest_snapshot(tmp_path, True, print)
    trainer._restore(snapshot)
    assert (tmp_path / run_directory.HISTORY).read_text().count("\n") == 2
    trainer.run(snapshot)
    assert (tmp_path / run_directory.HISTORY).read_text() == (whole[0] / run_directory.HISTORY).read_text()


@pytest.mark.slow
def test_early_stopping_ends_the_run_at_the_same_epoch_after_a_resume(tmp_path):
    def stopping():
        return [keras.callbacks.EarlyStopping("loss", patience=1, min_delta=math.inf)]

    whole = toy.train(tmp_path / "whole", epochs=9, callbacks=stopping())
    assert len(whole.history) == 2
    for epochs in (1, 9, 9):
        resumed = toy.train(tmp_path / "resumed", epochs=epochs, callbacks=stopping())
    assert resumed.history == whole.history and resumed.weights_sha256() == whole.weights_sha256()


@pytest.mark.slow
def test_callbacks_are_called_as_fit_calls_them(tmp_path):
    class Record(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def on_train_begin(self, logs=None):
            assert self.model.optimizer is not None and self.params["epochs"] == 1
            self.calls.append("train begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.calls.append(f"epoch begin {epoch}")

        def on_train_batch_end(self, batch, logs=None):
            self.calls.append(f"batch {batch} {sorted(logs)}")

        def on_epoch_end(self, epoch, logs=None):
            self.calls.append(f"epoch end {epoch} {logs['validation_top1'] >= 0}")

        def on_train_end(self, logs=None):
            self.calls.append("train end")

    record = Record()
    toy.train(tmp_path, epochs=1, callbacks=[record])
    steps = [f"batch {step} ['loss']" for step in range(toy.STEPS_PER_EPOCH)]
    assert record.calls == ["train begin", "epoch begin 0", *steps, "epoch end 0 True", "train end"]


@pytest.mark.slow
def test_csv_logger_and_plateau_work(tmp_path):
    callbacks = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=math.inf, factor=0.5),
    ]
    trainer = toy.train(tmp_path / "run", epochs=3, callbacks=callbacks)
    assert (tmp_path / "log.csv").read_text().count("\n") == 4
    assert [row["learning_rate"] for row in trainer.history] == pytest.approx([0.01, 0.01, 0.005])


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_names_the_last_good_checkpoint(tmp_path):
    def loss(logits, batch):
        broken = tf.reduce_any(tf.equal(batch["index"], first_of_step_13))
        return toy.cross_entropy(logits, batch) + tf.where(broken, math.nan, 0.0)

    batch = next(iter(toy.task().batches_from(13).as_numpy_iterator()))
    first_of_step_13 = batch["index"][0]
    seen = [
        step
        for step, one in enumerate(toy.task().batches_from(0).take(14).as_numpy_iterator())
        if first_of_step_13 in one["index"]
    ]
    saved = max(step for step in range(0, seen[0] + 1, 2))
    with pytest.raises(UserError, match=rf"the loss of step {seen[0]} is nan; the last good .*step-0+{saved}-"):
        toy.train(tmp_path, save_steps=2, loss=loss)
    newest = checkpoint.load_newest(tmp_path / run_directory.CHECKPOINTS)
    assert newest.step == saved and all(np.isfinite(array).all() for array in newest.arrays.values())


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused_and_nothing_assigned(tmp_path):
    toy.train(tmp_path, epochs=1)
    other = toy.task()
    other.model.pop()
    other.model.add(keras.layers.Dense(toy.CLASSES + 1))
    other.model.build((None, 6, 5, 3))
    trainer = Trainer(other, tmp_path, toy.saver(tmp_path))
    before = trainer.weights_sha256()
    with pytest.raises(UserError, match=r"the checkpoint has model/.*/kernel as \(\(48, 3\).*as \(\(48, 4\)"):
        trainer.run(run_directory.newest_snapshot(tmp_path, True, print))
    assert trainer.weights_sha256() == before


@pytest.mark.slow
def test_checkpoints_without_resume_are_refused_with_the_way_out(tmp_path):
    toy.train(tmp_path, epochs=1)
    with pytest.raises(UserError, match="has checkpoints up to step 10; add --resume"):
        toy.train(tmp_path, epochs=1, resume=False)


def test_a_changed_experiment_is_refused_by_name_with_both_values():
    saved = {"learning_rate": 0.1, "images": "a" * 64, "epochs": 3, "options": [1, 2]}
    run_directory.check_same_experiment(saved, {**saved, "options": (1, 2)})
    run_directory.check_same_experiment(saved, {**saved, "epochs": 4}, may_change=("epochs",))
    with pytest.raises(UserError, match=r"learning_rate was 0.1 and is 0.2, epochs was 3 and is None"):
        changed = {name: value for name, value in saved.items() if name != "epochs"}
        run_directory.check_same_experiment(saved, {**changed, "learning_rate": 0.2})


def test_a_stop_request_saves_the_step_and_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("tfpipeline.system.signals.StopRequest.requested", property(lambda stop: True))
    with pytest.raises(Stopped, match=r"step 1 of 30 is saved in .* for --resume; run the same command again"):
        toy.train(tmp_path, save_steps=50)
    assert checkpoint.load_newest(tmp_path / run_directory.CHECKPOINTS).step == 1


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_gives_the_final_weights(tmp_path):
    trainer = toy.train(tmp_path, epochs=6, monitor="validation_top1", learning_rate=0.05)
    figures = [row["validation_top1"] for row in trainer.history]
    assert trainer.best_step == (1 + figures.index(max(figures))) * toy.STEPS_PER_EPOCH
    assert trainer.best_step < trainer.step - checkpoint.KEEP, "the best epoch must not be among the newest"
    steps = {checkpoint.step_of(path) for path in checkpoint.newest_first(tmp_path / run_directory.CHECKPOINTS)}
    assert trainer.best_step in steps
    assert trainer.task.evaluate()["validation_top1"] == max(figures)
    again = toy.train(tmp_path, epochs=6, monitor="validation_top1", learning_rate=0.05)
    assert again.weights_sha256() == trainer.weights_sha256()


@pytest.mark.slow
def test_the_model_has_its_averaged_weights_only_inside_the_context(tmp_path):
    task = toy.train(tmp_path, epochs=1).task
    averages = [v.numpy() for v in task.optimizer.variables if v.name.endswith("_average")]
    for variable in task.model.trainable_variables:
        variable.assign(variable + 1)
    before = [variable.numpy() for variable in task.model.trainable_variables]
    with averaged_weights(task.model, task.optimizer):
        for variable, average in zip(task.model.trainable_variables, averages, strict=True):
            assert np.array_equal(variable.numpy(), average)
    for variable, value in zip(task.model.trainable_variables, before, strict=True):
        assert np.array_equal(variable.numpy(), value)


@pytest.mark.slow
def test_fit_works_on_the_same_batches():
    task = toy.task()
    task.model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    pairs = task.batches_from(0).map(lambda batch: (batch["images"], batch["truth"]))
    history = task.model.fit(pairs, steps_per_epoch=toy.STEPS_PER_EPOCH, epochs=2, verbose=0)
    assert len(history.history["accuracy"]) == 2
