"""Trainings in processes of their own, which are really killed: what is left must end as if nothing had happened."""

import pathlib
import signal

import numpy as np
import pytest

from tests.support import toy_training as toy
from tests.support.processes import Child, finished
from tfpipeline.training import checkpoint, run_directory
from tfpipeline.training.run_directory import newest_step

pytestmark = pytest.mark.slow

EPOCHS, SAVE_STEPS = 12, 3
STEPS = EPOCHS * toy.STEPS_PER_EPOCH


def start(directory, log):
    return Child(directory / "said", toy.train_in_process, directory, log, EPOCHS, SAVE_STEPS)


def lines_of(log):
    return log.read_text().splitlines() if log.exists() else []


def wait_for_steps(child, log, steps):
    """Waits until the log shows so many steps."""
    while len(lines_of(log)) < steps:
        assert not child.ended(0.002), child.said()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    finished(directory / "said", toy.train_in_process, directory, directory / "log", EPOCHS, SAVE_STEPS)
    assert len(lines_of(directory / "log")) == STEPS
    return directory


def assert_ended_like(whole, directory):
    for name in ("weights", run_directory.HISTORY):
        assert (directory / name).read_text() == (whole / name).read_text()
    files = [
        {path.name for path in checkpoint.newest_first(place / run_directory.CHECKPOINTS)}
        for place in (whole, directory)
    ]
    assert files[0] == files[1]


@pytest.mark.long
def test_twenty_kills_at_random_moments_change_no_bit_and_no_order(whole, tmp_path):
    random = np.random.default_rng(0)
    expected = lines_of(whole / "log")
    for attempt in range(20):
        first = newest_step(tmp_path)
        log = tmp_path / f"log-{attempt}"
        child = start(tmp_path, log)
        # A fifth of the kills hits the start; between steps, in saves and while pruning hit the others.
        wait_for_steps(child, log, 0 if attempt % 5 == 0 else int(random.integers(1, 9)))
        child.ended(random.uniform(0, 0.5 if attempt % 5 == 0 else 0.03))
        child.kill()
        done = lines_of(log)
        assert done == expected[first : first + len(done)]
    assert newest_step(tmp_path) > toy.STEPS_PER_EPOCH
    finished(tmp_path / "said", toy.train_in_process, tmp_path, tmp_path / "log", EPOCHS, SAVE_STEPS)
    assert_ended_like(whole, tmp_path)


def test_two_kills_inside_one_epoch_keep_the_order_of_the_images(whole, tmp_path):
    expected, first = lines_of(whole / "log"), 0
    for attempt, steps in enumerate((4, 4)):
        log = tmp_path / f"log-{attempt}"
        child = start(tmp_path, log)
        wait_for_steps(child, log, steps)
        child.kill()
        done = lines_of(log)
        assert done == expected[first : first + len(done)]
        first = newest_step(tmp_path)
        assert first > 0
    finished(tmp_path / "said", toy.train_in_process, tmp_path, tmp_path / "log", EPOCHS, SAVE_STEPS)
    assert lines_of(tmp_path / "log") == expected[first:]
    assert_ended_like(whole, tmp_path)


def test_two_sigterms_save_and_end_with_75_and_the_next_run_goes_on(whole, tmp_path):
    log = tmp_path / "log"
    child = Child(tmp_path / "said", toy.train_as_command, tmp_path, log, EPOCHS, 1000)
    wait_for_steps(child, log, 14)
    child.signal(signal.SIGTERM)
    child.signal(signal.SIGINT)
    child.ended()
    assert child.exit_code == 75, child.said()
    assert f"is saved in {tmp_path} for --resume; run the same command again" in child.said()
    assert newest_step(tmp_path) == len(lines_of(log))
    finished(tmp_path / "said", toy.train_in_process, tmp_path, tmp_path / "log", EPOCHS, SAVE_STEPS)
    assert (tmp_path / "weights").read_text() == (whole / "weights").read_text()
    assert lines_of(log) == lines_of(whole / "log")


def test_a_signal_within_a_step_and_two_more_while_saving_lose_nothing(whole, tmp_path):
    log, step = tmp_path / "log", 14
    child = Child(tmp_path / "said", toy.train_and_be_stopped_twice, tmp_path, log, EPOCHS, step)
    child.ended()
    assert child.exit_code == 75, child.said()
    assert "signals while saving" in child.said()
    assert lines_of(log) == lines_of(whole / "log")[:step] and newest_step(tmp_path) == step
    finished(tmp_path / "said", toy.train_in_process, tmp_path, tmp_path / "log", EPOCHS, SAVE_STEPS)
    assert lines_of(log) == lines_of(whole / "log")
    assert_ended_like(whole, tmp_path)


@pytest.mark.parametrize("gone", [1, 2])
def test_the_newest_checkpoints_gone_only_cost_time(whole, tmp_path, gone):
    log = tmp_path / "log"
    child = start(tmp_path, log)
    wait_for_steps(child, log, 13)
    child.kill()
    for path in checkpoint.newest_first(tmp_path / run_directory.CHECKPOINTS)[:gone]:
        path.unlink()
    assert newest_step(tmp_path) > 0
    finished(tmp_path / "said", toy.train_in_process, tmp_path, tmp_path / "rest", EPOCHS, SAVE_STEPS)
    assert_ended_like(whole, tmp_path)


def test_a_second_trainer_in_one_run_directory_is_refused_while_the_first_lives(tmp_path):
    first = Child(tmp_path / "first", toy.hold_lock, tmp_path / "run")
    while not (tmp_path / "run" / "held").exists():
        assert not first.ended(0.002), first.said()
    log = tmp_path / "log"
    second = Child(tmp_path / "second", toy.train_as_command, tmp_path / "run", log, 1, 1)
    second.ended()
    assert second.exit_code == 1
    assert f"another trainer works in {tmp_path / 'run'} (process {first.process.pid} on " in second.said()
    assert not log.exists() and not pathlib.Path(tmp_path / "run" / run_directory.CHECKPOINTS).exists()
    first.kill()
    finished(tmp_path / "third", toy.train_in_process, tmp_path / "run", log, 1, 1)
