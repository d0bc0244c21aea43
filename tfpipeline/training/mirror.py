"""A second place for the checkpoints of runs, such as a mounted drive that may fail: a folder for each experiment."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from tfpipeline.system import remove_leftovers, write_file
from tfpipeline.training import checkpoint
from tfpipeline.training.clock import CLOCK, seconds_in

Accepts = Callable[[dict], bool]


class Mirror:
    """Copies of checkpoints. Runs of different experiments may share it: none sees what is another's.

    Until version 0.2 the copies lay in the mirror itself. They still serve, and are never removed.

    Args:
        place: the directory; may be missing.
        say: takes a line about a copy that failed or was brought back.
    """

    def __init__(self, place: pathlib.Path, say: Callable[[str], None] = lambda line: None):
        self.place, self.say = place, say
        self._whole = set[pathlib.Path]()  # Copies that need not be read again: a drive may be slow.

    def folder_of(self, experiment: dict) -> pathlib.Path:
        """Where the copies of an experiment are."""
        return self.place / hashlib.sha256(json.dumps(experiment, sort_keys=True).encode()).hexdigest()[:16]

    def copy(self, kept: Sequence[pathlib.Path], experiment: dict, beside: Sequence[pathlib.Path] = ()) -> None:
        """Copies checkpoints and drops old copies; a mirror that fails only costs the copies.

        Args:
            kept: the checkpoints to have copies of.
            experiment: that they are of.
            beside: files to copy as well, where they are.
        """
        folder = self.folder_of(experiment)
        try:
            for path in kept:
                if not self._has(folder / path.name) and checkpoint.is_whole(path):
                    copy_checkpoint(path, folder)
                    self._whole.add(folder / path.name)
            checkpoint.prune(folder, keep_steps=tuple(map(checkpoint.step_of, kept)))
            remove_leftovers(folder, CLOCK)
            for path in filter(pathlib.Path.exists, beside):
                write_file(folder / path.name, path.read_bytes())
        except OSError as error:
            names = ", ".join(path.name for path in kept)
            self.say(f"no copy of {names} in {folder}: {error}; the training goes on and tries the next one")

    def newest(self, accepts: Accepts) -> checkpoint.Snapshot | None:
        """The newest whole snapshot here of an experiment that is accepted, or None."""
        return max(
            (found for folder in self._folders() for found in _newest_in(folder, accepts)),
            key=lambda snapshot: snapshot.step,
            default=None,
        )

    def snapshots_of_step(self, step: int, experiment: dict) -> Iterator[checkpoint.Snapshot]:
        """The whole snapshots here of a step of an experiment."""
        for folder in (self.folder_of(experiment), self.place):
            yield from _snapshots(folder, lambda saved: saved == experiment, step)

    def fetch(self, directory: pathlib.Path, accepts: Accepts) -> None:
        """Brings whole checkpoints back that are newer than the newest whole one of a run, and the run's clock.

        Args:
            directory: of the checkpoints, in that of the run.
            accepts: whether an experiment is that of the run.
        """
        own = [checkpoint.step_of(path) for path in checkpoint.newest_first(directory) if checkpoint.is_whole(path)]
        for folder in self._folders():
            for snapshot in _snapshots(folder, accepts):
                if snapshot.step <= max(own, default=-1):
                    break
                copy_checkpoint(snapshot.path, directory)
                self.say(f"brought {snapshot.path.name} back from {folder}")
                if seconds_in(folder) > seconds_in(directory.parent):
                    write_file(directory.parent / CLOCK, (folder / CLOCK).read_bytes())

    def _has(self, copy):
        if copy not in self._whole and checkpoint.is_whole(copy):
            self._whole.add(copy)
        return copy in self._whole and copy.exists()

    def _folders(self):
        try:
            return [self.place, *sorted(path for path in self.place.iterdir() if path.is_dir())]
        except OSError:
            return []  # There is no mirror yet, or none that can be read.


def copy_checkpoint(path: pathlib.Path, directory: pathlib.Path) -> None:
    """Copies a checkpoint to another directory and hashes the copy.

    Raises:
        OSError: it cannot be written, or reads back otherwise; then the copy is removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    copy = directory / path.name
    write_file(copy, path.read_bytes())
    if not checkpoint.is_whole(copy):
        copy.unlink()
        raise OSError(f"{copy} does not read back as it was written")


def _newest_in(folder, accepts):
    """The newest snapshot in a folder, if there is one."""
    for snapshot in _snapshots(folder, accepts):
        yield snapshot
        return


def _snapshots(folder, accepts, step=None):
    """The whole snapshots in a folder, newest first, of an experiment that is accepted."""
    for path in checkpoint.newest_first(folder):
        if step is None or checkpoint.step_of(path) == step:
            try:
                snapshot = checkpoint.load(path)
            except checkpoint.DamagedCheckpoint:
                continue
            if accepts(snapshot.config.get("experiment", {})):
                yield snapshot
