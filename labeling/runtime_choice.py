"""Which runtime answers fastest, and how many images at a time: measured on the images to be labeled, once.

The choice is part of the labels' spec, so going on takes what is there. It is also kept in the cache: a job that was
killed before its first label, or is run again elsewhere on this machine, gives the same bytes.
"""

import collections.abc
import contextlib
import dataclasses
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

from labeling import labeler, runtimes
from labeling.answers import Answerer
from tfpipeline import durable
from tfpipeline.errors import UserError
from tfpipeline.progress import SILENT

DEFAULT_BATCH_SIZE = 64
BATCH_SIZES = (1, 4, 16, DEFAULT_BATCH_SIZE)
SHORT_SECONDS = 60.0  # Work that takes less is not worth a measurement.
_PILOT_BATCH_SIZE = 16
_FEW_IMAGES = 4 * DEFAULT_BATCH_SIZE
_MEASURED_SECONDS, _MEASURED_IMAGES = 1.0, 1024
_WORTHWHILE = 1.1  # times the rate that the default reaches, or else the default is kept
_CHECKED_IMAGES = 16
_MEMORY_SHARE = 0.25
# Tensors that a network holds at a time, as multiples of its largest one.
_TENSORS_HELD = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """What there is to choose from.

    Attributes:
        runtimes: of runtimes.RUNTIMES, the first one the default.
        batch_sizes: images per step.
    """

    runtimes: tuple[str, ...]
    batch_sizes: tuple[int, ...]

    @property
    def default(self) -> tuple[str, int]:
        """The runtime and batch size where the choice does not matter."""
        return self.runtimes[0], self._nearest(DEFAULT_BATCH_SIZE)

    @property
    def pilot(self) -> tuple[str, int]:
        """The runtime and batch size of the first look."""
        return self.runtimes[0], self._nearest(_PILOT_BATCH_SIZE)

    def _nearest(self, wanted):
        return min(self.batch_sizes, key=lambda size: abs(size - wanted))


def options(runtime: str | None, batch_size: int | None, console=SILENT) -> Options:
    """What is left to choose.

    Args:
        runtime: the one to take, or None for any that is installed.
        batch_size: the one to take, or None for any.
        console: told when OpenVINO is missing.
    """
    if runtime:
        names = (runtime,)
    else:
        names = runtimes.installed()
        if names != runtimes.RUNTIMES:
            console.say(
                "OpenVINO, often faster on processors, is not installed (pip install openvino): TensorFlow answers"
            )
    return Options(names, (batch_size,) if batch_size else BATCH_SIZES)


def fastest(
    base: Answerer, offered: Options, images: np.ndarray, key: str, cache: pathlib.Path, console=SILENT
) -> Answerer:
    """The answerer among the options that labels the images fastest; the same one each time.

    Args:
        base: answers by any of them.
        offered: of `options`.
        images: uint8 (N, H, W, 3), all that are to be labeled.
        key: tells this work from other work.
        cache: the directory that keeps choices.
        console: told what was measured.
    """
    if len(images) <= _FEW_IMAGES or len(offered.runtimes) == len(offered.batch_sizes) == 1:
        return base.by(*offered.default)
    path = _record(cache, key, offered)
    with _locked(path):
        chosen = _recorded(path, offered)
        if chosen is None:
            rates = _measure(base, offered, images, console)
            chosen = _best(rates, offered)
            told = {f"{runtime}, {size} at a time": round(rate, 1) for (runtime, size), rate in rates.items()}
            content = {"runtime": chosen[0], "batch_size": chosen[1], "images_per_second": told}
            durable.write_file(path, json.dumps(content, indent=1).encode())
            if len(rates) > 1:
                console.say("images/s by " + "; ".join(f"{name}: {rate:,.1f}" for name, rate in told.items()))
    console.say(f"{chosen[0]} answers in {base.precision}, {chosen[1]} images at a time")
    return base.by(*chosen)


def check_same(answer: Answerer, images: np.ndarray) -> None:
    """Checks a few answers against those of TensorFlow in float32.

    Raises:
        UserError: they are others.
    """
    if (answer.runtime, answer.precision) == ("tensorflow", "float32"):
        return
    count = min(_CHECKED_IMAGES, len(images))
    pictures = np.array(images[np.linspace(0, len(images) - 1, count).astype(np.int64)])
    expected = answer.by("tensorflow", count, "float32").log_probs(pictures)
    steps = range(0, count, answer.batch_size)
    found = np.concatenate([answer.log_probs(pictures[step : step + answer.batch_size]) for step in steps])
    moved = float(np.mean(0.5 * np.abs(np.exp(found) - np.exp(expected)).sum(-1)))
    allowed = runtimes.TOLERANCE[answer.precision]
    if not moved <= allowed:
        raise UserError(
            f"{answer.runtime} in {answer.precision} answers otherwise than TensorFlow in float32 (on average "
            f"{moved:.2%} of the probability lies on other classes, at most {allowed:.2%} may); give --runtime "
            "tensorflow --precision float32"
        )


def images_per_second(answer: Answerer, images: np.ndarray) -> float:
    """The rate of labeling, over a few batches after the first one."""
    count = min(len(images), _MEASURED_IMAGES)
    whole = count - count % answer.batch_size or count
    batches = labeler.answered_batches(images, itertools.repeat((0, whole)), answer, answer.batch_size, answer.parallel)
    with contextlib.closing(batches):
        next(batches)
        start, done, seconds = time.monotonic(), 0, 0.0
        while done <= answer.parallel * answer.batch_size or seconds < _MEASURED_SECONDS:
            done += len(next(batches)[1])
            seconds = time.monotonic() - start
    return done / seconds


def _measure(base, offered, images, console):
    """(runtime, batch size) -> images/s; of the first look alone, when the work is short."""
    pilot = images_per_second(base.by(*offered.pilot), images)
    if len(images) / pilot < SHORT_SECONDS:
        return {offered.default: pilot}
    rates = {}
    for runtime, size in itertools.product(offered.runtimes, offered.batch_sizes):
        if size > min(offered.batch_sizes) and _bytes_held(base, runtime) * size > _MEMORY_SHARE * _memory():
            continue
        try:
            answer = base.by(runtime, size)
            if (runtime, size) == (runtime, min(offered.batch_sizes)):
                check_same(answer, images)
        except UserError as error:
            if len(offered.runtimes) == 1:
                raise
            console.say(f"{runtime} is left out: {error}")
            break
        rates[runtime, size] = images_per_second(answer, images)
    return rates


def _best(rates, offered):
    """The fastest, unless the default is nearly as fast."""
    best = max(rates, key=rates.get)
    return best if rates[best] > _WORTHWHILE * rates.get(offered.default, 0.0) else offered.default


def _bytes_held(base, runtime):
    """The memory that answering holds per image of a batch, estimated by the largest tensor of the graph."""
    at_once = 1 if runtime == "tensorflow" else os.cpu_count()
    return _TENSORS_HELD * at_once * base.largest_tensor_bytes()


@functools.cache
def _memory():
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _record(cache, key, offered):
    """The file that keeps the choice for this work on this machine with these versions."""
    versions = [tf.__version__, runtimes.import_openvino().__version__ if "openvino" in offered.runtimes else ""]
    parts = [key, *dataclasses.astuple(offered), *versions, os.cpu_count()]
    return pathlib.Path(cache) / "runtimes" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.json"


def _recorded(path, offered):
    """(runtime, batch size) on record, or None."""
    try:
        content = json.loads(path.read_text())
        chosen = content["runtime"], content["batch_size"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return chosen if chosen[0] in offered.runtimes and chosen[1] in offered.batch_sizes else None


@contextlib.contextmanager
def _locked(path) -> collections.abc.Iterator[None]:
    """A context that one process at a time is in: two that measure at once would disturb each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
