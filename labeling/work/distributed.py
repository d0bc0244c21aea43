"""Labeling by the workers of an engine, Apache Beam or Ray: the missing shards go in, and the engine spreads them.

What all engines share is here: a request to stop, progress, and that nobody is waited for without end.
"""

import contextlib
import dataclasses
import pathlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import psutil

from labeling.labels import LabelStore, Span, images_in
from labeling.work.labeler import SAVED, SECONDS_BETWEEN_LOOKS
from labeling.work.shard_worker import Plan
from tfpipeline.system import PARTIAL, SILENT, Console, StopRequest, UserError, open_locked

SECONDS_TO_BEGIN = 600.0  # for the first batch, at least: a cluster starts machines, and these load the teachers
SECONDS_TO_END = 20.0  # for the workers, after a request to stop; and for an engine that is given up

GiveUp = Callable[[UserError], None]
Engine = Callable[[Plan, Sequence[Span], GiveUp], None]
"""Labels spans by workers, and returns when they are done.

It is called in the main thread, where what it waits for can be interrupted. It may call the last argument, from any
thread, with the reason why waiting is in vain. Where that is so, a KeyboardInterrupt interrupts it. It raises UserError
where it gave up of itself.
"""


def label(
    engine: Engine,
    plan: Plan,
    store: LabelStore,
    stop: StopRequest,
    worker_timeout: float,
    console: Console = SILENT,
) -> int:
    """Labels what has no labels yet, by the workers of an engine.

    Args:
        engine: who spreads the work.
        plan: of `labeling.work.shard_worker.plan_of`.
        store: its label store.
        stop: a request ends the work of each worker after its shard.
        worker_timeout: seconds in which no worker answers a batch, after which what is left goes to others; before the
            first batch at least SECONDS_TO_BEGIN.
        console: where progress goes.

    Returns:
        Number of images that had no labels before and have some now.

    Raises:
        Stopped: a signal came; the finished shards are on disk.
        UserError: the engine gave up, or no worker shows life; the finished shards are on disk.
    """
    missing = left = store.missing_spans()
    with _progress(store, missing, console) as show:
        while left:
            with _Ticket(store.directory) as ticket, _Watch(ticket, show, stop, worker_timeout) as watch:
                try:
                    engine(dataclasses.replace(plan, ticket=str(ticket.path)), left, watch.give_up)
                except (Exception, KeyboardInterrupt) as error:
                    if watch.reason is None and not isinstance(error, UserError):
                        raise
                    stop.raise_if_requested(SAVED)
                    if watch.reason is None:
                        raise UserError(f"{error}; {SAVED}; run the same command again to go on") from error
            stop.raise_if_requested(SAVED)
            before, left = left, store.missing_spans()
            if watch.reason is None:
                break
            if not isinstance(watch.reason, Silence) or len(left) == len(before):
                raise watch.reason
            console.say(f"no worker has answered for {worker_timeout:,g} seconds; others do the rest of their work")
    return images_in(missing) - images_in(left)


class Silence(UserError):
    """No worker has shown life for too long."""

    def __init__(self, seconds: float):
        super().__init__(
            f"no worker has answered for {seconds:,g} seconds: they have died or hang, or a batch takes longer, for "
            f"which --worker-timeout is; {SAVED}; run the same command again to go on"
        )


@contextlib.contextmanager
def _progress(store, missing, console):
    """A context that gives a function which shows how many images are labeled, and returns the number of shards."""
    before, to_label = _count_shards(store), images_in(missing)
    shown = 0

    def show():
        nonlocal shown
        shards = _count_shards(store)
        labeled = min((shards - before) * store.spec.shard_size, to_label)
        if labeled > shown:
            advance(labeled - shown)
            shown = labeled
        return shards

    with console.bar("labeling", store.spec.count, "image", done=store.spec.count - to_label) as advance:
        yield show


def _count_shards(store):
    return sum(1 for _ in store.directory.glob("labels-*.npz"))


class _Ticket:
    """A file in the label store while the work is wanted; workers touch it.

    It is locked: when this process is killed, the next one that labels into the directory removes it
    (tfpipeline.system.remove_leftovers), and the workers that were left behind give way.
    """

    def __init__(self, directory: pathlib.Path):
        self.path = directory.resolve() / f".workers.{uuid.uuid4().hex[:8]}{PARTIAL}"

    def __enter__(self):
        self._file = open_locked(self.path)
        return self

    def __exit__(self, *_):
        self.withdraw()
        self._file.close()

    def withdraw(self) -> None:
        """Lets the workers end after the shards that they are at."""
        self.path.unlink(missing_ok=True)

    def touched(self) -> int | None:
        """When a worker last touched it, by the clock of the file system; None after it was withdrawn."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_mtime_ns
        return None


class _Watch:
    """A context in which a thread shows the progress, hands a stop request on, and interrupts waiting in vain.

    An engine waits in the main thread, and there a signal raises what ends it, so that it cleans up after itself. The
    processes that it has started on this machine are killed before, since it would wait for these, too.

    Attributes:
        reason: why the engine was given up; None where it was not.
    """

    def __init__(self, ticket: _Ticket, show: Callable[[], int], stop: StopRequest, worker_timeout: float):
        self._ticket, self._show, self._stop, self._worker_timeout = ticket, show, stop, worker_timeout
        self._ended, self._main = threading.Event(), threading.get_ident()
        self._thread = threading.Thread(target=self._look)
        self.reason: UserError | None = None

    def __enter__(self):
        self._others = set(psutil.Process().children(recursive=True))
        self._previous = signal.signal(signal.SIGUSR1, self._raise_interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._previous)

    def give_up(self, reason: UserError) -> None:
        """Interrupts the engine; the first reason counts: those processes that are killed for it give others."""
        if self.reason is None:
            self.reason = reason
            self._interrupt()

    def _interrupt(self):
        self._ticket.withdraw()
        for child in set(psutil.Process().children(recursive=True)) - self._others:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        signal.pthread_kill(self._main, signal.SIGUSR1)

    def _raise_interrupt(self, *_):
        if not self._ended.is_set():
            raise KeyboardInterrupt  # Ray swallows any other exception.

    def _look(self):
        last, sign = time.monotonic(), (self._show(), self._ticket.touched())
        seconds = max(SECONDS_TO_BEGIN, self._worker_timeout)
        is_last = False
        while not is_last:
            is_last = self._ended.wait(SECONDS_BETWEEN_LOOKS)
            if self._stop.requested:
                self._ticket.withdraw()
            newest = (self._show(), self._ticket.touched())
            if newest != sign:
                last, sign, seconds = time.monotonic(), newest, self._worker_timeout
            if self._stop.requested or self.reason:
                seconds = SECONDS_TO_END
            if is_last or time.monotonic() - last < seconds:
                continue
            last = time.monotonic()
            if self.reason is None:
                self.give_up(Silence(seconds))
            else:  # The engine swallowed the exception, or its end hangs.
                self._interrupt()
