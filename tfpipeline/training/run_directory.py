"""A run's directory: who works in it, which experiment it holds, and what is written beside the checkpoints.

Every command asks here for the flags of a run, `--help` too: `training.checkpoint` imports NumPy only where it is used.
"""

from __future__ import annotations

import contextlib
import csv
import json
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator

from tfpipeline import training
from tfpipeline.system import (
    UserError,
    lock,
    read_hashed,
    remove_leftovers,
    sha256_of_file,
    this_process,
    write_csv,
    write_hashed,
)
from tfpipeline.training import distributed
from tfpipeline.training.clock import CLOCK

Say = Callable[[str], None]

LOCK, CONFIG, HISTORY, CHECKPOINTS = "lock", "config.json", "history.csv", "checkpoints"
_KINDS: dict[str, type] = {"flags": dict, "experiment": dict, "machine": dict, "class_names": list}
FIGURES, MODEL, GRADIENTS, EVALUATION = "figures.json", "model.keras", "gradients.csv", "evaluation.json"


@contextlib.contextmanager
def lock_run(directory: pathlib.Path) -> Iterator[None]:
    """A context in which no other trainer may work in the directory; the system frees it however the process ends.

    A directory in which nothing was written is removed at the end.

    Raises:
        UserError: another trainer works there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "a+") as file:
        try:
            lock(file, wait=False)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"another trainer works in {directory} ({file.read().strip() or 'just starting'}); "
                "wait for it, stop it, or give another --run"
            ) from error
        file.truncate(0)
        file.write(f"{this_process()}\n")
        file.flush()
        remove_leftovers(directory, "|".join(map(re.escape, (CONFIG, HISTORY, FIGURES, MODEL, GRADIENTS, CLOCK))))
        try:
            yield
        finally:
            _remove_if_unused(directory)


def _remove_if_unused(directory):
    """A run that was refused before it began leaves no directory behind."""
    with contextlib.suppress(OSError):  # A mount point and a link stay, and the reason of the refusal is not hidden.
        if [path.name for path in directory.iterdir()] == [LOCK]:
            (directory / LOCK).unlink()
            directory.rmdir()


def newest_snapshot(directory: pathlib.Path, resume: bool, say: Say) -> training.checkpoint.Snapshot | None:
    """The snapshot to go on from; None to begin.

    Args:
        directory: the run directory.
        resume: whether to go on from checkpoints; an empty directory then means to begin.
        say: takes a line for each damaged checkpoint that is passed over.

    Raises:
        UserError: there are checkpoints and `resume` is false, or all of them are damaged.
    """
    checkpoints = directory / CHECKPOINTS
    if not resume and (found := training.checkpoint.newest_first(checkpoints)):
        raise UserError(
            f"{directory} has checkpoints up to step {training.checkpoint.step_of(found[0])}; "
            "add --resume to go on from them, or give another --run"
        )
    return training.checkpoint.load_newest(checkpoints, say)


def newest_step(directory: pathlib.Path) -> int:
    """The step of a run's newest checkpoint, by its name; 0 where there is none."""
    found = training.checkpoint.newest_first(directory / CHECKPOINTS)
    return training.checkpoint.step_of(found[0]) if found else 0


def snapshot_of_step(
    directory: pathlib.Path, step: int, say: Say, copies: Iterable[training.checkpoint.Snapshot] = ()
) -> training.checkpoint.Snapshot:
    """The snapshot of the best epoch.

    Args:
        directory: the run directory.
        step: at the end of that epoch.
        say: takes a line for each damaged checkpoint that is passed over, and about a copy that takes its place.
        copies: whole ones of the same step elsewhere.

    Raises:
        UserError: there is no whole checkpoint of the step.
    """
    for path in training.checkpoint.newest_first(directory / CHECKPOINTS):
        if training.checkpoint.step_of(path) == step:
            try:
                return training.checkpoint.load(path)
            except training.checkpoint.DamagedCheckpoint as error:
                say(f"passing over the damaged checkpoint {path}: {error}")
    for snapshot in copies:
        say(f"taking the copy {snapshot.path}")
        return snapshot
    raise UserError(
        f"the checkpoint of the best epoch, step {step}, is not whole in {directory}; "
        "bring back a copy, or train again in another --run"
    )


def broadcast_snapshot(
    workers: distributed.Workers, snapshot: training.checkpoint.Snapshot | None
) -> training.checkpoint.Snapshot | None:
    """The chief's snapshot, verified again: other workers need not see its run directory.

    Args:
        workers: the processes that train together.
        snapshot: the chief's, or None; that of another worker does not count.

    Raises:
        UserError: a worker is gone or failed.
    """
    found = workers.broadcast_file(None if snapshot is None else snapshot.path)
    if found is None or workers.is_chief:
        return snapshot
    path, content = found
    return training.checkpoint.verify(pathlib.Path(path), content)


def check_same_experiment(saved: dict, now: dict, may_change: Collection[str] = ()) -> None:
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
    """Writes config.json, with a hash over all that it says."""
    write_hashed(directory / CONFIG, config)


def write_history(directory: pathlib.Path, rows: list[dict]) -> None:
    """Writes history.csv anew, one row per epoch; it never has rows that no checkpoint stands for."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    # The line ends are those of the runs that began before: the file of a finished run stays as it is.
    write_csv(directory / HISTORY, names, [[row.get(name) for name in names] for row in rows], line_end="\r\n")


def read_config(directory: pathlib.Path) -> dict | None:
    """What config.json says: "flags", "experiment" and "machine"; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / CONFIG
    try:
        config = read_hashed(path)
        if config is None:
            return None
        for name, kind in _KINDS.items():
            if not isinstance(config.get(name, kind()), kind) or (name == "flags" and name not in config):
                raise ValueError(f"{name} is not what it must be")
        return config
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); the same jobs.train command with --resume writes it again"
        ) from error


def read_history(directory: pathlib.Path) -> list[dict[str, float | None]]:
    """The rows of history.csv, one for each finished epoch; None where a figure is empty.

    Raises:
        UserError: the directory holds no run, or no epoch of it is done, or the file is damaged, or says otherwise than
            the newest checkpoint.
    """
    path = directory / HISTORY
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)
            ]
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: {directory} holds no finished epoch of jobs.train") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged ({error}); the same jobs.train command with --resume writes it again"
        ) from error
    if not rows:
        raise UserError(f"{directory} has no finished epoch yet; go on with jobs.train --resume")
    for epoch, (row, saved) in enumerate(zip(rows, _saved_history(directory), strict=False), 1):
        if not _same_row(row, saved):
            raise UserError(
                f"{path} is damaged (epoch {epoch} is another one than in the checkpoint); the same jobs.train command "
                "with --resume writes it again"
            )
    return rows


def _saved_history(directory):
    """The history in the newest whole checkpoint; [] where there is none."""
    try:
        snapshot = training.checkpoint.load_newest(directory / CHECKPOINTS)
    except UserError:
        return []
    return [] if snapshot is None else snapshot.state.get("history", [])


def _same_row(row, saved):
    """Whether a row of history.csv says what a checkpoint says; a float has all its digits in both."""
    texts = [{name: repr(float(value)) for name, value in one.items() if value is not None} for one in (row, saved)]
    return texts[0] == texts[1]


def write_figures(directory: pathlib.Path, figures: dict) -> None:
    """Writes figures.json: what the training printed last, or the step at which it diverged."""
    write_hashed(directory / FIGURES, figures)


def read_figures(directory: pathlib.Path) -> dict:
    """What figures.json says; {} where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / FIGURES
    try:
        return read_hashed(path) or {}
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it: the same jobs.train command with --resume writes it again"
        ) from error


def write_evaluation(place: pathlib.Path, directory: pathlib.Path, said: dict) -> None:
    """Writes evaluation.json into the directory of an evaluation, with a hash over all that it says.

    Args:
        place: that directory.
        directory: of the run; the file says of which network the evaluation is.
        said: what else there is to say, for JSON.
    """
    write_hashed(place / EVALUATION, {"network": sha256_of_file(directory / MODEL), **said})


def read_evaluation(place: pathlib.Path, directory: pathlib.Path) -> dict | None:
    """What evaluation.json in the directory of an evaluation says; None where there is none.

    Raises:
        UserError: it is damaged, or of another network than the run has now.
    """
    path = place / EVALUATION
    again = "jobs.evaluate makes the evaluation anew"
    try:
        said = read_hashed(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {again}") from error
    if said is not None and said.get("network") != sha256_of_file(directory / MODEL):
        raise UserError(f"{path} is of another network than {directory} has now; {again}")
    return said


def run_of_evaluation(place: pathlib.Path) -> pathlib.Path:
    """The directory of the run that an evaluation is of: that in which it lies, else the one that it names.

    Args:
        place: the directory of the evaluation.

    Raises:
        UserError: it is damaged, or of version 0.1 and lies in no run.
    """
    if (place.parent / CONFIG).is_file():
        return place.parent
    try:
        return pathlib.Path((read_hashed(place / EVALUATION) or {})["flags"]["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place / EVALUATION} does not say its run ({error}); jobs.evaluate writes it anew") from error


def read_gradients(directory: pathlib.Path) -> dict[str, list[float]]:
    """The norms in gradients.csv, "before" and "after" the training, in the layers' order; {} where it is missing.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / GRADIENTS
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in ("before", "after")}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); the same jobs.train command writes it again") from error


def _brief(value):
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
