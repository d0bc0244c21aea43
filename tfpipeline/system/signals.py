"""A request to stop, made by SIGTERM or SIGINT and heard at the next boundary where all is saved."""

import contextlib
import signal
from collections.abc import Iterator

from tfpipeline.system.errors import Stopped


class StopRequest:
    """Within this context SIGTERM and SIGINT only leave a note, however many of them come.

    The work asks `raise_if_requested()` wherever everything is saved, so a signal never tears a write apart.
    """

    def __init__(self):
        self.signal_name = None

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _frame):
        self.signal_name = signal.Signals(number).name

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def raise_if_requested(self, saved: str) -> None:
        """Ends the work at a boundary.

        Args:
            saved: what is safe on disk now, for the person at the terminal.

        Raises:
            Stopped: when a signal has come.
        """
        if self.requested:
            raise Stopped(f"stopped by {self.signal_name}; {saved}; run the same command again to go on")


@contextlib.contextmanager
def end_by_signal(message: str) -> Iterator[None]:
    """A context that SIGTERM and SIGINT end at once: for work of other libraries, which know no boundary.

    Args:
        message: what is safe on disk then, for the person at the terminal.

    Raises:
        Stopped: a signal came.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(message) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
