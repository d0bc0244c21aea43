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
        self.path, self._before, self._start = directory / CLOCK, seconds_in(directory), time.monotonic()

    @property
    def seconds(self) -> float:
        """Those of all processes so far."""
        return self._before + time.monotonic() - self._start

    def save(self) -> None:
        """Leaves the seconds for the next process."""
        write_file(self.path, json.dumps({"seconds": round(self.seconds, 3)}).encode())


def seconds_in(directory: pathlib.Path) -> float:
    """The seconds that the file of a clock in a directory tells; 0 where there is none."""
    try:
        return float(json.loads((directory / CLOCK).read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # A new run, or one of which nobody counted the seconds.
