"""A request to stop, made by SIGTERM or SIGINT and heard at the next boundary where all is saved, or at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from tfpipeline.system.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Within this context SIGTERM and SIGINT only leave a note, however many of them come.

    The work asks `raise_if_requested()` wherever everything is saved, so a signal never tears a write apart.

    Args:
        hear: takes the number of each signal, to hand it on; or None.
    """

    def __init__(self, hear: Callable[[int], object] | None = None):
        self.signal_name, self._hear = None, hear

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _frame):
        self.signal_name = signal.Signals(number).name
        if self._hear is not None:
            self._hear(number)

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
    previous = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(message) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Interrupts:
    """Within this context SIGTERM raises KeyboardInterrupt as SIGINT does, so that what is half done is removed.

    After it both are ignored: it is for the work of a whole process, whose end nothing more can change. A signal that
    is ignored before stays so, as SIGINT is for a shell's background job.

    Attributes:
        came: whether one has come. Where it interrupts C++, KeyboardInterrupt may become another exception.
    """

    def __init__(self):
        self.came = False

    def __enter__(self):
        is_main = threading.current_thread() is threading.main_thread()  # The others hear no signals.
        self._heard = [n for n in _SIGNALS if is_main and signal.getsignal(n) is not signal.SIG_IGN]
        self._set(self._interrupt)
        return self

    def __exit__(self, *_):
        self._set(signal.SIG_IGN)

    def _set(self, handler):
        for number in self._heard:
            signal.signal(number, handler)

    def _interrupt(self, _number, _frame):
        self.came = True
        raise KeyboardInterrupt
