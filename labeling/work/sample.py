"""The answers to a sample of the images, before all else: what tells how the answers are to be adapted.

They lie in the label store, in pieces, until all images are labeled: a killed command goes on with them, and whoever
labels these images, in this process or another, does not ask for them again.
"""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import re
import time
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from labeling.labels import CLAIM, SAMPLE, LabelSpec, Span, adaptation
from labeling.work import labeler
from labeling.work.answerer import Answerer
from labeling.work.labeler import Calls
from tfpipeline.batches import Answers
from tfpipeline.images import ImageStore, draw_by_name
from tfpipeline.system import SILENT, Console, StopRequest, UserError, open_locked, remove_leftovers, write_file

MOST_IMAGES = 5000
_MOST_NUMBERS = 40_000_000  # in all answers, 160 MB
_PIECE = 512  # images
_NAME = re.compile(SAMPLE + r"-(\d{8,})-(\d{8,})-([0-9a-f]{16})\.npz")
_SAVED = "the answers to the sample so far are saved"


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Some images, and what the teachers answer to them.

    Attributes:
        indices: of the images, in order, int64 (n,).
        log_probs: over all classes of the teachers, float32 (n, answers, classes).
    """

    indices: np.ndarray
    log_probs: np.ndarray

    @property
    def combined(self) -> np.ndarray:
        """Log-probabilities, float32 (n, classes): of several answers to an image the geometric mean."""
        combined = np.empty((len(self.indices), self.log_probs.shape[2]), np.float32)
        for row, answers in zip(combined, self.log_probs, strict=True):
            row[:] = adaptation.log_softmax(answers.mean(0, dtype=np.float64))
        return combined

    def answer_from(self, answer: Answerer) -> Callable[[int, np.ndarray], Answers]:
        """(index of the first image, images) -> their answers, those of the sample without asking."""

        def answer_from(first, images):
            start, end = np.searchsorted(self.indices, [first, first + len(images)])
            known = self.indices[start:end] - first
            if not len(known):
                return answer(images)
            log_p = np.empty((len(images), *self.log_probs.shape[1:]), np.float32)
            log_p[known] = self.log_probs[start:end]
            rest = np.setdiff1d(np.arange(len(images)), known)
            if len(rest):
                log_p[rest] = answer.log_probs(images[rest])
            return answer.keep(log_p)

        return answer_from


def indices_of_sample(names: list[str], spec: LabelSpec) -> np.ndarray:
    """Which images are the sample, chosen by a hash of their names: at most MOST_IMAGES, fewer of very many classes.

    Args:
        names: of all images.
        spec: of their labels.
    """
    numbers = len(spec.views) * spec.network_classes
    return draw_by_name(names, min(MOST_IMAGES, max(1, _MOST_NUMBERS // numbers)))


def answer_sample(
    images: ImageStore,
    spec: LabelSpec,
    directory: pathlib.Path,
    answer: Answerer,
    stop: StopRequest,
    console: Console = SILENT,
) -> Sample:
    """The sample, of which what is answered already is not asked for again.

    Args:
        images: all images.
        spec: of the labels, without adaptation.
        directory: of the label store, which need not have a spec yet.
        answer: over all classes.
        stop: asked between pieces.
        console: where progress goes.

    Raises:
        UserError: an answer is no distribution, such as NaN; the message names the image.
        Stopped: a signal came; what is answered so far is on disk.
    """
    indices = indices_of_sample(images.names, spec)
    remove_leftovers(directory, rf"{SAMPLE}-.*\.npz")
    there = dict(_read_pieces(directory, spec))
    parts = []
    calls = Calls(answer.images_per_call, answer.parallel)
    with console.bar("answering a sample", len(indices), "image") as advance:
        for first in range(0, len(indices), _PIECE):
            chosen = indices[first : first + _PIECE]
            piece = there.get(first)
            if piece is None or not np.array_equal(piece.indices, chosen):
                stop.raise_if_requested(_SAVED)
                pictures = np.array(images.images[chosen])
                batches = labeler.answer_batches(pictures, [Span(0, len(chosen))], answer.log_probs, calls)
                piece = Sample(chosen, np.concatenate([log_p for _, log_p in batches]))
                _check_numbers(piece, images.names)
                _write_piece(directory, spec, first, piece)
            parts.append(piece)
            advance(len(chosen))
    return _join(parts)


def read_sample(directory: pathlib.Path, spec: LabelSpec) -> Sample | None:
    """What there is of the sample in a label store; None where there is nothing of it."""
    pieces = [piece for _, piece in sorted(_read_pieces(directory, spec), key=lambda item: item[0])]
    return _join(pieces) if pieces else None


def remove_sample(directory: pathlib.Path) -> None:
    """Removes the answers to the sample: all images have labels."""
    for path in directory.glob(f"{SAMPLE}-*.npz"):
        if _NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def take_turn(directory: pathlib.Path, stop: StopRequest, console: Console = SILENT) -> Iterator[None]:
    """A context that one of the processes that begin a label store is in, while the others wait.

    Args:
        directory: of the label store; made where it is missing.
        stop: asked while waiting.
        console: where it is said that another process is waited for.

    Raises:
        Stopped: a signal came.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, file, said = directory / f".{SAMPLE}{CLAIM}", None, False
    while file is None:
        stop.raise_if_requested(_SAVED)
        try:
            file = open_locked(path, wait=False, for_all=True)
        except PermissionError:
            break  # Another user's, whom nobody may ask: answered twice is better than never.
        except BlockingIOError:
            if not said:
                console.say("another process answers the sample; waiting for it")
            said = True
            time.sleep(labeler.SECONDS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        if file is not None:
            path.unlink(missing_ok=True)
            file.close()


def _join(pieces):
    """Pieces as one sample. One that lacks some of its pieces is one of fewer images."""
    return Sample(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("indices", "log_probs")))


def _check_numbers(piece, names):
    wrong = np.flatnonzero(np.isnan(piece.log_probs).any((1, 2)))
    if len(wrong):
        raise UserError(
            f"the teachers answer NaN to image {piece.indices[wrong[0]]:,} ({names[piece.indices[wrong[0]]]}), and to "
            f"{len(wrong)} of a sample of {len(piece.indices)} in all: leave such images out, or give another teacher"
        )


def _write_piece(directory, spec, first, piece):
    content = io.BytesIO()
    np.savez(content, spec=_hash_of(spec), indices=piece.indices, log_probs=piece.log_probs)
    digits = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    name = f"{SAMPLE}-{first:08d}-{first + len(piece.indices):08d}-{digits}.npz"
    write_file(directory / name, content.getvalue())


def _read_pieces(directory, spec):
    """(place in the sample, piece) of each whole file of this spec; the others count for nothing."""
    for path in sorted(directory.glob(f"{SAMPLE}-*.npz")):
        match = _NAME.fullmatch(path.name)
        try:
            content = path.read_bytes()
            if not match or hashlib.sha256(content).hexdigest()[:16] != match[3]:
                continue
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                if np.array_equal(arrays["spec"], _hash_of(spec)):
                    yield int(match[1]), Sample(arrays["indices"], arrays["log_probs"])
        except (FileNotFoundError, KeyError, ValueError, zipfile.BadZipFile):
            continue  # Another process has just removed it, or it is of another program.


def _hash_of(spec):
    """The hash of the spec without its adaptation, which the sample is to tell."""
    text = dataclasses.replace(spec, adaptation=None).to_json()
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
