"""When a training saves, and where: checkpoints in its own directory and, if asked for, copies in a mirror."""

import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

from tfpipeline.training import checkpoint
from tfpipeline.training.flags import SaveEvery
from tfpipeline.training.mirror import Mirror


class Saver:
    """Saves the state of a training, keeps the newest and the best, and copies them.

    Args:
        directory: of the checkpoints.
        every: how often.
        mirror: a second place, or None.
        say: takes a line about a checkpoint that is damaged or cannot be read.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        every: SaveEvery,
        mirror: Mirror | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.directory, self.every, self.mirror, self.say = directory, every, mirror, say
        self._saved_at, self._named = time.monotonic(), set[pathlib.Path]()

    def copies_of_step(self, step: int, experiment: dict) -> Iterator[checkpoint.Snapshot]:
        """The whole snapshots in the mirror of a step of an experiment."""
        if self.mirror is not None:
            yield from self.mirror.snapshots_of_step(step, json.loads(json.dumps(experiment)))

    def is_due(self, step: int) -> bool:
        """Whether so many steps or seconds have passed."""
        if self.every.steps is not None and step % self.every.steps == 0:
            return True
        return self.every.seconds is not None and time.monotonic() - self._saved_at >= self.every.seconds

    def steps_until_due(self, step: int, at_most: int) -> int:
        """How many steps may be taken before the next one that must be saved."""
        return at_most if self.every.steps is None else min(at_most, self.every.steps - step % self.every.steps)

    def save(self, step: int, arrays: dict, config: dict, state: dict, best_step: int | None = None) -> None:
        """Commits a checkpoint, and drops old ones but the best.

        Raises:
            UserError: the disk is full; the earlier checkpoints are intact.
        """
        checkpoint.save(self.directory, step, arrays, config, state)
        damaged = checkpoint.prune(self.directory, keep_steps=() if best_step is None else (best_step,))
        for other in damaged:
            if other not in self._named:
                self._named.add(other)
                self.say(f"passing over the damaged checkpoint {other}; nothing is deleted in its favor")
        self._saved_at = time.monotonic()

    def copy(self, experiment: dict, beside: Sequence[pathlib.Path] = ()) -> None:
        """Copies the checkpoints that the mirror lacks to it, if there is one.

        Args:
            experiment: that they are of.
            beside: files to copy as well.
        """
        if self.mirror is not None:
            self.mirror.copy(checkpoint.newest_first(self.directory), experiment, beside)
