"""A run's directory: who works in it, which experiment it holds, and what is written beside the checkpoints."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import platform

from tfpipeline.system import UserError, write_file
from tfpipeline.training import checkpoint

LOCK, CONFIG, HISTORY, CHECKPOINTS = "lock", "config.json", "history.csv", "checkpoints"


@contextlib.contextmanager
def locked(directory: pathlib.Path):
    """A context in which no other trainer may work in the directory; the system frees it however the process ends.

    A directory in which nothing was written is removed at the end.

    Raises:
        UserError: another trainer works there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"another trainer works in {directory} ({file.read().strip() or 'just starting'}); "
                "wait for it, stop it, or give another --run"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        try:
            yield
        finally:
            _remove_if_unused(directory)


def _remove_if_unused(directory):
    """A run that was refused before it began leaves no directory behind."""
    if [path.name for path in directory.iterdir()] == [LOCK]:
        (directory / LOCK).unlink()
        directory.rmdir()


def newest_snapshot(directory: pathlib.Path, resume: bool, say) -> checkpoint.Snapshot | None:
    """The snapshot to go on from; None to begin.

    Args:
        directory: the run directory.
        resume: whether to go on from checkpoints; an empty directory then means to begin.
        say: takes a line for each damaged checkpoint that is passed over.

    Raises:
        UserError: there are checkpoints and `resume` is false, or all of them are damaged.
    """
    checkpoints = directory / CHECKPOINTS
    if not resume and (found := checkpoint.newest_first(checkpoints)):
        raise UserError(
            f"{directory} has checkpoints up to step {checkpoint.step_of(found[0])}; add --resume to go on from them, "
            "or give another --run"
        )
    return checkpoint.load_newest(checkpoints, say)


def snapshot_of_step(directory: pathlib.Path, step: int, say) -> checkpoint.Snapshot:
    """The snapshot of the best epoch.

    Args:
        directory: the run directory.
        step: at the end of that epoch.
        say: takes a line for each damaged checkpoint that is passed over.

    Raises:
        UserError: there is no whole checkpoint of the step.
    """
    for path in checkpoint.newest_first(directory / CHECKPOINTS):
        if checkpoint.step_of(path) == step:
            try:
                return checkpoint.load(path)
            except checkpoint.DamagedCheckpoint as error:
                say(f"passing over the damaged checkpoint {path}: {error}")
    raise UserError(
        f"the checkpoint of the best epoch, step {step}, is not whole in {directory}; "
        "bring back a copy, or train again in another --run"
    )


def check_same_experiment(saved: dict, now: dict, may_change: tuple[str, ...] = ()) -> None:
    """Checks that going on would not silently change the experiment.

    Args:
        saved: the experiment of the checkpoint, name -> value for JSON.
        now: the experiment that is asked for.
        may_change: names whose values may differ.

    Raises:
        UserError: names every difference with both values.
    """
    now = json.loads(json.dumps(now))
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name) and name not in may_change]
    if names:
        changes = ", ".join(f"{name} was {_brief(saved.get(name))} and is {_brief(now.get(name))}" for name in names)
        raise UserError(f"--resume refuses a changed experiment: {changes}; undo the change or give another --run")


def write_config(directory: pathlib.Path, config: dict) -> None:
    """Writes config.json."""
    write_file(directory / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def write_history(directory: pathlib.Path, rows: list[dict]) -> None:
    """Writes history.csv anew, one row per epoch; it never has rows that no checkpoint stands for."""
    with io.StringIO(newline="") as text:
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
        write_file(directory / HISTORY, text.getvalue().encode())


def _brief(value):
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
