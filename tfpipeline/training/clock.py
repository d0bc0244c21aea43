"""How long a run has taken, over all the processes that worked at it."""

import json
import pathlib
import time

from tfpipeline.system import write_file

CLOCK = "clock.json"


class Clock:
    """Counts the seconds of a run, from those that an earlier process left in its directory on.

    What a killed process worked after its last checkpoint is done again, and does not count.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: pathlib.Path):
        self._path, self._before, self._start = directory / CLOCK, _read(directory / CLOCK), time.monotonic()

    @property
    def seconds(self) -> float:
        """Those of all processes so far."""
        return self._before + time.monotonic() - self._start

    def save(self) -> None:
        """Leaves the seconds for the next process."""
        write_file(self._path, json.dumps({"seconds": round(self.seconds, 3)}).encode())


def _read(path):
    try:
        return float(json.loads(path.read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # A new run, or one of which nobody counted the seconds.
