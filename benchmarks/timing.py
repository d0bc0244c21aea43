"""Times of functions that are to be compared, and what whole commands take."""

import functools
import multiprocessing
import pathlib
import random
import re
import resource
import statistics
import subprocess
import sys
import time
import typing

SECONDS_BETWEEN_LOOKS = 0.01


class Watched(typing.NamedTuple):
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        megabytes: its anonymous memory at the peak (RssAnon: without the pages of memory-mapped files).
    """

    seconds: float
    megabytes: float


def watch(job, arguments) -> Watched:
    """Runs a command to its end, its memory read every ten milliseconds (Linux).

    Args:
        job: its name, such as "train".
        arguments: its command line.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]
    peak, start = 0, time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = re.search(r"RssAnon:\s+(\d+) kB", pathlib.Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(held[1]) if held else 0)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Watched(time.perf_counter() - start, peak / 1024)


def medians(functions, repeats):
    """{name: median seconds of a call}, the functions taking turns, so that a busy moment of the machine meets all.

    Their order changes from turn to turn: threads of one library that still spin would slow down whoever comes next.

    Args:
        functions: {name: function without arguments}; each call does all its work before it returns.
        repeats: how many turns are timed, after two that are not.
    """
    order, times = list(functions), {name: [] for name in functions}
    shuffle = random.Random(0).shuffle
    for turn in range(-2, repeats):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            functions[name]()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


class Measured(typing.NamedTuple):
    """What a contestant took in a process of its own.

    Attributes:
        seconds: of a call, the median.
        peak_bytes: of the process, at its largest.
    """

    seconds: float
    peak_bytes: int


def measure_apart(contestants, repeats):
    """{name: Measured, or None where a package is missing}, each contestant in a process of its own, taking turns.

    So each has the settings of its library that its users have, and those that wait sleep.

    Args:
        contestants: {name: function without arguments that prepares all and returns what is timed}; they are sent to
            processes, so they are functions of a module, or `functools.partial` of such.
        repeats: how many turns are timed, after two that are not.
    """
    context = multiprocessing.get_context("spawn")
    processes = {}
    for name, prepare in contestants.items():
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(prepare, there), daemon=True)
        process.start()
        there.close()
        if here.recv():
            processes[name] = (process, here)
    seconds = medians({name: functools.partial(_ask, here) for name, (_, here) in processes.items()}, repeats)
    measured = dict.fromkeys(contestants)
    for name, (process, connection) in processes.items():
        connection.send(False)
        measured[name] = Measured(seconds[name], connection.recv())
        process.join()
    return measured


def _ask(connection):
    """One call of a contestant; the words to and fro take microseconds."""
    connection.send(True)
    connection.recv()


def _serve(prepare, connection):
    """Prepares, says whether that was possible, then makes a call for every word that says so."""
    try:
        function = prepare()
    except ModuleNotFoundError as error:
        print(f"left out, as {error.name} is not installed", file=sys.stderr)
        connection.send(False)
        return
    connection.send(True)
    while connection.recv():
        function()
        connection.send(True)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
