"""Two processes on 127.0.0.1 that train together, with TensorFlow's MultiWorkerMirroredStrategy between them."""

import json
import os
import pathlib
import signal
import time

import numpy as np
import pytest

from tests.support.clusters import clusters
from tests.support.jobs import argv_of, call, figures_of, run_job
from tests.support.processes import Child, finished
from tests.support.runs import files_of
from tfpipeline.training import checkpoint, run_directory, trainer

pytestmark = pytest.mark.slow

WORKERS = 2
MOST_SECONDS = 300  # A worker that waits for one that is gone would wait for ever.
# Gradients long enough to be clipped, a penalty, averages, partners in the other worker's part; no batch statistics.
PLAIN = {
    "network": "patchify_net",
    "network_options": ["patch_size=4", "filters=4", "hidden=8"],
    "epochs": 2,
    "clip_norm": 0.5,
    "l2": 0.01,
    "ema": 0.9,
    "mix": "cutmix:1",
}
STATISTICS = {"epochs": 3, "save_every": 1, "ema": 0.9, "mix": "mixup:1"}  # And dropout.


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where the images are, built by one process before two read them."""
    directory = tmp_path_factory.mktemp("cache")
    finished(directory / "said", run_job, argv_of(directory, directory / "run", epochs=1))
    return directory


def work(argv, cluster, signal_number, step):
    """Runs the command as a worker; it sends itself a signal before it takes a step, or stops itself after it.

    That is, after the chief has taken it, too: until then the chief may still read what this worker adds to it.
    """
    run_of_chief = pathlib.Path(argv[argv.index("--run") + 1])
    tasks = {"cluster": {"worker": cluster.addresses}, "task": {"type": "worker", "index": cluster.number}}
    os.environ["TF_CONFIG"] = json.dumps(tasks)
    take_steps = trainer.Trainer._advance

    def advance(self, steps):
        is_time = signal_number is not None and self.step <= step < self.step + steps
        if is_time and signal_number != signal.SIGSTOP:
            os.kill(os.getpid(), signal_number)
        take_steps(self, steps)
        if is_time and signal_number == signal.SIGSTOP:
            while run_directory.newest_step(run_of_chief) < self.step:
                time.sleep(0.01)
            os.kill(os.getpid(), signal_number)

    trainer.Trainer._advance = advance
    call(argv)


def pair(place, argv, victim=None, signal_number=None, step=None):
    """Two workers that have ended; one of them gets a signal at a step."""
    place.mkdir(parents=True, exist_ok=True)
    children = []
    for cluster in clusters(WORKERS):
        number = signal_number if cluster.number == victim else None
        flags = [*argv, "--strategy", "multi_worker"]
        if cluster.number:
            flags += ["--run", str(place / "another machine")]  # Only the chief's counts.
        said = place / f"said-{step}-{cluster.number}"
        children.append(Child(said, work, flags, cluster, number, step))
    others = [child for number, child in enumerate(children) if (number, signal_number) != (victim, signal.SIGSTOP)]
    try:
        assert all(child.ended(MOST_SECONDS) for child in others), [child.said() for child in children]
    finally:
        for child in children:
            child.process.kill()
    assert not (place / "another machine").exists()
    return children


def arrays_in(directory):
    return checkpoint.load_newest(directory / run_directory.CHECKPOINTS).arrays


def relative_difference(ours, theirs):
    """The largest difference, relative to the largest of the values."""
    return np.abs(ours.astype(np.float64) - theirs).max() / max(np.abs(theirs).max(), np.finfo(np.float32).tiny)


@pytest.mark.long
def test_two_processes_reach_the_weights_of_one(cache, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    finished(tmp_path / "said", run_job, argv_of(cache, one, "--best", **PLAIN))
    children = pair(tmp_path, argv_of(cache, two, "--best", **PLAIN))
    assert [child.exit_code for child in children] == [0, 0], [child.said() for child in children]
    differences = {name: relative_difference(arrays_in(two)[name], array) for name, array in arrays_in(one).items()}
    assert max(differences.values()) < 1e-5, differences
    assert all("the best epoch is that of step 8" in child.said() for child in children)
    chief, other = map(figures_of, children)
    assert chief["weights_sha256"] == other["weights_sha256"] and chief["steps"] == 16
    losses = [[row["loss"] for row in history(place)] for place in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert (two / "model.keras").exists() and history(two)[-1]["validation_top5"] is not None


def history(directory):
    return checkpoint.load_newest(directory / run_directory.CHECKPOINTS).state["history"]


@pytest.mark.long
def test_killed_and_stopped_workers_started_again_give_the_same_bytes(cache, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    children = pair(tmp_path, argv_of(cache, whole, **STATISTICS))
    assert [child.exit_code for child in children] == [0, 0], [child.said() for child in children]
    argv = argv_of(cache, run, "--resume", **STATISTICS)

    chief, killed = pair(tmp_path, argv, 1, signal.SIGKILL, 5)
    assert (chief.exit_code, killed.exit_code) == (1, -signal.SIGKILL), chief.said()
    assert "train: worker 1 at 127.0.0.1:" in chief.said() and "is gone; see what it said last" in chief.said()
    assert checkpoint.load_newest(run / run_directory.CHECKPOINTS).step == 5

    killed, other = pair(tmp_path, argv, 0, signal.SIGKILL, 9)
    assert (killed.exit_code, other.exit_code) == (-signal.SIGKILL, 1), other.said()
    assert "train: worker 0 at 127.0.0.1:" in other.said()

    chief, other = pair(tmp_path, argv, 1, signal.SIGTERM, 18)
    assert (chief.exit_code, other.exit_code) == (75, 75), chief.said() + other.said()
    assert f"step 19 of 24 is saved in {run} for --resume" in chief.said()
    assert f"stopped by SIGTERM; step 19 of 24 is saved in {run} for --resume" in other.said()

    chief, _ = pair(tmp_path, [*argv, "--worker-timeout", "10"], 1, signal.SIGSTOP, 21)
    assert chief.exit_code == 75, chief.said()
    assert "stopped, as worker 1 at 127.0.0.1:" in chief.said()
    assert "has not answered for 10 seconds: it hangs, or needs longer, for which --worker-timeout" in chief.said()
    assert f"step 22 of 24 is saved in {run} for --resume; end that worker" in chief.said()

    children = pair(tmp_path, argv, step="last")
    assert [child.exit_code for child in children] == [0, 0], [child.said() for child in children]
    assert files_of(run) == files_of(whole)
    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()
