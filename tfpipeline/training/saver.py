"""When a training saves, and where: checkpoints in its own directory and, if asked for, a copy in a second place."""

import dataclasses
import pathlib
import re
import time
from collections.abc import Callable

from tfpipeline.system import FlagError, write_file
from tfpipeline.training import checkpoint


@dataclasses.dataclass(frozen=True)
class SaveEvery:
    """How often a checkpoint is saved, beside the end of every epoch.

    Attributes:
        steps: after so many training steps, or None.
        seconds: after so many seconds, or None.
    """

    steps: int | None = None
    seconds: float | None = None


def parse_save_every(text: str) -> SaveEvery:
    """How often to save: "500" steps or "60s".

    Raises:
        FlagError: the text is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)(s?)", text)
    if not match:
        raise FlagError(f"--save-every {text}: write a number of steps such as 500, or of seconds such as 60s")
    return SaveEvery(seconds=int(match[1])) if match[2] else SaveEvery(steps=int(match[1]))


class Saver:
    """Saves the state of a training, keeps the newest and the best, and copies them.

    Args:
        directory: of the checkpoints.
        every: how often.
        mirror: a second place, such as a mounted drive that may fail; or None.
        say: takes a line about a copy that failed.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        every: SaveEvery,
        mirror: pathlib.Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.directory, self.every, self.mirror, self.say = directory, every, mirror, say
        self._saved_at = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether so many steps or seconds have passed."""
        if self.every.steps is not None and step % self.every.steps == 0:
            return True
        return self.every.seconds is not None and time.monotonic() - self._saved_at >= self.every.seconds

    def steps_until_due(self, step: int, at_most: int) -> int:
        """How many steps may be taken before the next one that must be saved."""
        return at_most if self.every.steps is None else min(at_most, self.every.steps - step % self.every.steps)

    def save(self, step: int, arrays: dict, config: dict, state: dict, best_step: int | None = None) -> None:
        """Commits a checkpoint, drops old ones but the best, and copies what is new to the mirror.

        Raises:
            UserError: the disk is full; the earlier checkpoints are intact.
        """
        path = checkpoint.save(self.directory, step, arrays, config, state)
        keep_steps = () if best_step is None else (best_step,)
        checkpoint.prune(self.directory, keep_steps=keep_steps)
        if self.mirror is not None:
            self._copy(path, keep_steps)
        self._saved_at = time.monotonic()

    def _copy(self, path, keep_steps):
        """Copies under a new name and reads the copy back; a mirror that fails only costs the copy."""
        try:
            copy_checkpoint(path, self.mirror)
            checkpoint.prune(self.mirror, keep_steps=keep_steps)
        except OSError as error:
            self.say(f"no copy of {path.name} in {self.mirror}: {error}; the training goes on and tries the next one")


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


def fetch_from_mirror(mirror: pathlib.Path, directory: pathlib.Path, say: Callable[[str], None]) -> None:
    """Brings those whole checkpoints back from the mirror that are newer than the directory's own.

    Args:
        mirror: where the copies are; may be missing.
        directory: of the checkpoints of the run.
        say: takes a line about what was brought back.
    """
    own = [checkpoint.step_of(path) for path in checkpoint.newest_first(directory) if checkpoint.is_whole(path)]
    for path in checkpoint.newest_first(mirror):
        if checkpoint.step_of(path) > max(own, default=-1) and checkpoint.is_whole(path):
            copy_checkpoint(path, directory)
            say(f"brought {path.name} back from {mirror}")
