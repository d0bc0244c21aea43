"""What a long command tells while it runs: a bar on a terminal, plain lines otherwise, nothing when quiet."""

import sys
import time
from contextlib import contextmanager
from typing import TextIO

import tqdm

SECONDS_BETWEEN_LINES = 10


def _in_notebook() -> bool:
    """Whether this code runs in a cell; a process that only has the package, as one that runs notebooks, does not."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def _stream() -> TextIO:
    """Where lines and bars go: a notebook shows standard error as if something had failed."""
    return sys.stdout if _in_notebook() else sys.stderr


class Console:
    """Where the work reports to. Everything goes to standard error, in a notebook below the cell.

    Standard output is for results.

    Args:
        quiet: no bars and no lines.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet

    def say(self, line: str) -> None:
        """Prints a line, above a bar if there is one."""
        if not self.quiet:
            tqdm.tqdm.write(line, file=_stream())

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0):
        """A context that yields `advance(n, **figures)`.

        Args:
            what: a verb, such as "labeling".
            total: number of units in all.
            unit: the unit's name, such as "image"; the rate is per second.
            done: how many were done before, when going on; they do not count in the rate.
        """
        if self.quiet:
            yield lambda _n, **_figures: None
        elif sys.stderr.isatty() or _in_notebook():
            with tqdm.tqdm(
                desc=what, total=total, unit=f" {unit}", initial=done, unit_scale=True, file=_stream()
            ) as bar:

                def advance(n, **figures):
                    if figures:
                        bar.set_postfix(figures, refresh=False)
                    bar.update(n)

                yield advance
        else:
            yield _Lines(what, total, unit, done).advance


class _Lines:
    """The bar of a log file: a line every ten seconds, and a last one."""

    def __init__(self, what, total, unit, done):
        self.what, self.total, self.unit, self.first, self.done = what, total, unit, done, done
        self.start = self.last = time.monotonic()

    def advance(self, n, **figures):
        self.done += n
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES and self.done < self.total:
            return
        self.last = now
        rate = (self.done - self.first) / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0
        words = "".join(f", {name} {value}" for name, value in figures.items())
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s, {_rate(rate)}, {left:,.0f} s left{words}",
            file=sys.stderr,
            flush=True,
        )


def _rate(rate):
    """A rate per second with the digits that tell something: 1,234/s, 3.2/s, 0.04/s."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


SILENT = Console(quiet=True)
