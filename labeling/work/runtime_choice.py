"""Which runtime answers fastest, and how many images at a time: measured on the images to be labeled, once.

The choice is part of the labels' spec, so going on takes what is there. It is also kept in the cache: a job that was
killed before its first label, or is run again elsewhere on this machine, gives the same bytes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import time

import numpy as np
import tensorflow as tf

from labeling.labels import Span
from labeling.work import labeler, runtimes
from labeling.work.answerer import Answerer
from labeling.work.labeler import Calls
from labeling.work.runtimes import Way
from tfpipeline.images import Pixels, spread_evenly
from tfpipeline.system import SILENT, Console, UserError, lock_file, write_file

# Worth trying, the first one where there is no measurement. OpenVINO runs as many batches at a time as there are cores,
# and is fastest while each of them fits into a core's cache.
BATCH_SIZES: dict[str, tuple[int, ...]] = {"tensorflow": (64, 16), "openvino": (16, 4, 2)}
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


def ways(runtime: str | None, batch_size: int | None, precision: str, console: Console = SILENT) -> list[Way]:
    """The ways to choose from, the default first.

    Args:
        runtime: the one to take, or None for any that is installed.
        batch_size: the one to take, or None for any of BATCH_SIZES.
        precision: of all of them.
        console: where it is said when OpenVINO is missing.
    """
    names: tuple[str, ...] = (runtime,) if runtime else runtimes.available_runtimes()
    if runtime is None and names != runtimes.RUNTIMES:
        console.say("OpenVINO, often faster on processors, is not installed (pip install openvino): TensorFlow answers")
    return [
        Way(name, size, precision) for name in names for size in ((batch_size,) if batch_size else BATCH_SIZES[name])
    ]


def fastest(
    base: Answerer, offered: list[Way], images: Pixels, key: str, cache: pathlib.Path, console: Console = SILENT
) -> Answerer:
    """The answerer among the ways offered that labels the images fastest; the same one each time.

    Args:
        base: answers in any of the ways.
        offered: of `ways`.
        images: uint8 (N, H, W, 3), all that are to be labeled.
        key: tells this work from other work.
        cache: the directory that keeps choices.
        console: where the measurements are said.

    Raises:
        UserError: the only runtime offered cannot run the teachers, or answers otherwise than TensorFlow.
    """
    if len(images) <= _FEW_IMAGES or len(offered) == 1:
        return _check(base.by(offered[0]), images)
    path = _record_path(cache, key, offered)
    # Two that measure at once would disturb each other.
    with lock_file(path.with_suffix(".lock"), "measures the same runtimes"):
        chosen = _read_record(path, offered)
        if chosen is None:
            measured = {} if _is_short(base, offered, images) else rates(base, offered, images, console)
            chosen = best(measured, offered[0])
            by_name = {f"{way.runtime}, {way.batch_size} at a time": round(rate, 1) for way, rate in measured.items()}
            content = {"runtime": chosen.runtime, "batch_size": chosen.batch_size, "images_per_second": by_name}
            write_file(path, json.dumps(content, indent=1).encode())
            if by_name:
                console.say("images/s by " + "; ".join(f"{name}: {rate:,.1f}" for name, rate in by_name.items()))
    console.say(f"{chosen.runtime} answers in {chosen.precision}, {chosen.batch_size} images at a time")
    return _check(base.by(chosen), images)


def _check(answer, images):
    """The answerer, after a few of its answers were compared with those of TensorFlow in float32.

    Raises:
        UserError: they are others.
    """
    way = answer.way
    if (way.runtime, way.precision) == ("tensorflow", "float32"):
        return answer
    pictures = np.array(images[spread_evenly(len(images), _CHECKED_IMAGES)])
    expected = answer.by(Way("tensorflow", len(pictures), "float32")).log_probs(pictures)
    found = answer.log_probs(pictures)
    moved = float(np.mean(0.5 * np.abs(np.exp(found) - np.exp(expected)).sum(-1)))
    allowed = runtimes.TOLERANCE[way.precision]
    if not moved <= allowed:
        raise UserError(
            f"{way.runtime} in {way.precision} answers otherwise than TensorFlow in float32 (on average "
            f"{moved:.2%} of the probability lies on other classes, at most {allowed:.2%} may); give --runtime "
            "tensorflow --precision float32"
        )
    return answer


def images_per_second(answer: Answerer, images: Pixels) -> float:
    """The rate of labeling, over a few batches after the first one."""
    count = min(len(images), _IMAGES_PER_TURN)
    whole = Span(0, count - count % answer.way.batch_size or count)
    calls = Calls(answer.way.batch_size, answer.parallel)
    batches = labeler.answer_batches(images, itertools.repeat(whole), answer, calls)
    with contextlib.closing(batches):
        next(batches)
        start, done, seconds = time.monotonic(), 0, 0.0
        while done <= calls.parallel * calls.images or seconds < _SECONDS_PER_TURN:
            done += len(next(batches)[1])
            seconds = time.monotonic() - start
    return done / seconds


def rates(base: Answerer, offered: list[Way], images: Pixels, console: Console = SILENT) -> dict[Way, float]:
    """Of the ways offered those that are within the machine's means, with images/s, the best of several turns.

    Args:
        base: answers in any of the ways.
        offered: of `ways`.
        images: uint8 (N, H, W, 3), those to be labeled.
        console: where it is said that a runtime cannot run the teachers, and is left out.

    Raises:
        UserError: the default runtime cannot run the teachers, or answers otherwise than TensorFlow.
    """
    default, pilot = offered[0], _pilot(offered)
    expected = images_per_second(base.by(pilot), images)
    answerers: dict[Way, Answerer] = {}
    for runtime, group in itertools.groupby(offered, key=lambda way: way.runtime):
        within = [way for way in group if way == pilot or _is_within_means(base, way, expected)]
        try:
            answerers |= {way: _check(base.by(way), images) for way in within}
        except UserError as error:
            if runtime == default.runtime:
                raise
            console.say(f"{runtime} is left out: {error}")
    found = dict.fromkeys(answerers, 0.0)
    for _, (way, answer) in itertools.product(range(_TURNS), answerers.items()):
        found[way] = max(found[way], images_per_second(answer, images))
    return found


def best(measured: dict[Way, float], default: Way) -> Way:
    """The fastest way of those measured, unless the default is nearly as fast."""
    first = max(measured, key=lambda way: measured[way], default=default)
    return first if measured.get(first, 0.0) > _WORTHWHILE * measured.get(default, 0.0) else default


def _is_short(base, offered, images):
    """Whether the work takes so little time that it does not matter how it is done."""
    return len(images) / images_per_second(base.by(_pilot(offered)), images) < SHORT_SECONDS


def _pilot(offered):
    """The way of a first look: the default runtime, with its smallest batch."""
    return min((way for way in offered if way.runtime == offered[0].runtime), key=lambda way: way.batch_size)


def _is_within_means(base, way, rate):
    """Whether a way's batches fit into memory, and a few of them into a turn, at about `rate` images/s."""
    images = way.batch_size * (1 if way.runtime == "tensorflow" else os.cpu_count())
    held = _TENSORS_HELD * base.largest_tensor_bytes() * images
    return held < _MEMORY_SHARE * _memory() and 2 * images / rate < _LONGEST_TURN


@functools.cache
def _memory():
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _record_path(cache, key, offered):
    """The file that keeps the choice for this work on this machine with these versions."""
    openvino = [runtimes.import_openvino().__version__ for way in offered[-1:] if way.runtime == "openvino"]
    parts = [key, [(way.runtime, way.batch_size) for way in offered], tf.__version__, openvino, os.cpu_count()]
    return pathlib.Path(cache) / "runtimes" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"


def _read_record(path, offered):
    """The way on record, or None."""
    try:
        content = json.loads(path.read_text())
        chosen = dataclasses.replace(offered[0], runtime=content["runtime"], batch_size=content["batch_size"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return chosen if chosen in offered else None
