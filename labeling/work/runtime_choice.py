"""Which runtime answers fastest, and how many images at a time: measured on the images to be labeled, once.

The choice is part of the labels' spec, so going on takes what is there. It is also kept in the cache: a job that was
killed before its first label, or is run again elsewhere on this machine, gives the same bytes.
"""

import collections.abc
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import pathlib
import time

import numpy as np
import tensorflow as tf

from labeling.work import labeler, runtimes
from labeling.work.answerer import Answerer
from tfpipeline.system import SILENT, UserError, write_file

# Worth trying, the first one where there is no measurement. OpenVINO runs as many batches at a time as there are cores,
# and is fastest while each of them fits into a core's cache.
BATCH_SIZES = {"tensorflow": (64, 16), "openvino": (16, 4, 2)}
DEFAULT_BATCH_SIZE = BATCH_SIZES["tensorflow"][0]
SHORT_SECONDS = 60.0  # Work that takes less is not worth a measurement.
_FEW_IMAGES = 256
_TURNS, _SECONDS_PER_TURN, _IMAGES_PER_TURN = 3, 0.5, 1024
_LONGEST_TURN = 10.0  # seconds
_WORTHWHILE = 1.1  # times the rate that the default reaches, or else the default is kept
_CHECKED_IMAGES = 16
_MEMORY_SHARE = 0.25
# Tensors that a network holds at a time, as multiples of its largest one.
_TENSORS_HELD = 3


def ways(runtime: str | None, batch_size: int | None, console=SILENT) -> list[tuple[str, int]]:
    """The (runtime, batch size) to choose from, the default first.

    Args:
        runtime: the one to take, or None for any that is installed.
        batch_size: the one to take, or None for any of BATCH_SIZES.
        console: told when OpenVINO is missing.
    """
    names = (runtime,) if runtime else runtimes.installed()
    if runtime is None and names != runtimes.RUNTIMES:
        console.say("OpenVINO, often faster on processors, is not installed (pip install openvino): TensorFlow answers")
    return [(name, size) for name in names for size in ((batch_size,) if batch_size else BATCH_SIZES[name])]


def fastest(
    base: Answerer, offered: list[tuple[str, int]], images: np.ndarray, key: str, cache: pathlib.Path, console=SILENT
) -> Answerer:
    """The answerer among the ways offered that labels the images fastest; the same one each time.

    Args:
        base: answers in any of the ways.
        offered: of `ways`.
        images: uint8 (N, H, W, 3), all that are to be labeled.
        key: tells this work from other work.
        cache: the directory that keeps choices.
        console: told what was measured.

    Raises:
        UserError: the only runtime offered cannot run the teachers, or answers otherwise than TensorFlow.
    """
    if len(images) <= _FEW_IMAGES or len(offered) == 1:
        return _checked(base.by(*offered[0]), images)
    path = _record(cache, key, offered)
    with _locked(path):
        chosen = _recorded(path, offered)
        if chosen is None:
            measured = {} if _is_short(base, offered, images) else rates(base, offered, images, console)
            chosen = best(measured, offered[0])
            told = {f"{runtime}, {size} at a time": round(rate, 1) for (runtime, size), rate in measured.items()}
            content = {"runtime": chosen[0], "batch_size": chosen[1], "images_per_second": told}
            write_file(path, json.dumps(content, indent=1).encode())
            if told:
                console.say("images/s by " + "; ".join(f"{name}: {rate:,.1f}" for name, rate in told.items()))
    console.say(f"{chosen[0]} answers in {base.precision}, {chosen[1]} images at a time")
    return _checked(base.by(*chosen), images)


def _checked(answer, images):
    """The answerer, after a few of its answers were compared with those of TensorFlow in float32.

    Raises:
        UserError: they are others.
    """
    if (answer.runtime, answer.precision) == ("tensorflow", "float32"):
        return answer
    count = min(_CHECKED_IMAGES, len(images))
    pictures = np.array(images[np.linspace(0, len(images) - 1, count).astype(np.int64)])
    expected = answer.by("tensorflow", count, "float32").log_probs(pictures)
    found = answer.log_probs(pictures)
    moved = float(np.mean(0.5 * np.abs(np.exp(found) - np.exp(expected)).sum(-1)))
    allowed = runtimes.TOLERANCE[answer.precision]
    if not moved <= allowed:
        raise UserError(
            f"{answer.runtime} in {answer.precision} answers otherwise than TensorFlow in float32 (on average "
            f"{moved:.2%} of the probability lies on other classes, at most {allowed:.2%} may); give --runtime "
            "tensorflow --precision float32"
        )
    return answer


def images_per_second(answer: Answerer, images: np.ndarray) -> float:
    """The rate of labeling, over a few batches after the first one."""
    count = min(len(images), _IMAGES_PER_TURN)
    whole = count - count % answer.batch_size or count
    batches = labeler.answered_batches(images, itertools.repeat((0, whole)), answer, answer.batch_size, answer.parallel)
    with contextlib.closing(batches):
        next(batches)
        start, done, seconds = time.monotonic(), 0, 0.0
        while done <= answer.parallel * answer.batch_size or seconds < _SECONDS_PER_TURN:
            done += len(next(batches)[1])
            seconds = time.monotonic() - start
    return done / seconds


def rates(
    base: Answerer, offered: list[tuple[str, int]], images: np.ndarray, console=SILENT
) -> dict[tuple[str, int], float]:
    """Of the ways offered those that are within the machine's means, way -> images/s, the best of several turns.

    Raises:
        UserError: the default runtime cannot run the teachers, or answers otherwise than TensorFlow. Another one that
            cannot is left out, and `console` is told.
    """
    default, pilot = offered[0], _pilot(offered)
    expected = images_per_second(base.by(*pilot), images)
    answerers = {}
    for runtime, group in itertools.groupby(offered, key=lambda way: way[0]):
        within = [way for way in group if way == pilot or _is_within_means(base, way, expected)]
        try:
            answerers |= {way: _checked(base.by(*way), images) for way in within}
        except UserError as error:
            if runtime == default[0]:
                raise
            console.say(f"{runtime} is left out: {error}")
    found = dict.fromkeys(answerers, 0.0)
    for _, (way, answer) in itertools.product(range(_TURNS), answerers.items()):
        found[way] = max(found[way], images_per_second(answer, images))
    return found


def best(measured: dict[tuple[str, int], float], default: tuple[str, int]) -> tuple[str, int]:
    """The fastest way of those measured, unless the default is nearly as fast."""
    first = max(measured, key=measured.get, default=default)
    return first if measured.get(first, 0.0) > _WORTHWHILE * measured.get(default, 0.0) else default


def _is_short(base, offered, images):
    """Whether the work takes so little time that it does not matter how it is done."""
    return len(images) / images_per_second(base.by(*_pilot(offered)), images) < SHORT_SECONDS


def _pilot(offered):
    """The way of a first look: the default runtime, with its smallest batch."""
    return min(way for way in offered if way[0] == offered[0][0])


def _is_within_means(base, way, rate):
    """Whether a way's batches fit into memory, and a few of them into a turn, at about `rate` images/s."""
    runtime, size = way
    at_once = 1 if runtime == "tensorflow" else os.cpu_count()
    held = _TENSORS_HELD * base.largest_tensor_bytes() * size * at_once
    return held < _MEMORY_SHARE * _memory() and 2 * size * at_once / rate < _LONGEST_TURN


@functools.cache
def _memory():
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _record(cache, key, offered):
    """The file that keeps the choice for this work on this machine with these versions."""
    openvino = [runtimes.import_openvino().__version__ for runtime, _ in offered[-1:] if runtime == "openvino"]
    parts = [key, offered, tf.__version__, openvino, os.cpu_count()]
    return pathlib.Path(cache) / "runtimes" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"


def _recorded(path, offered):
    """The way on record, or None."""
    try:
        content = json.loads(path.read_text())
        chosen = content["runtime"], content["batch_size"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return chosen if chosen in offered else None


@contextlib.contextmanager
def _locked(path) -> collections.abc.Iterator[None]:
    """A context that one process at a time is in: two that measure at once would disturb each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
