"""The work of labeling: the spans of images without labels, batch by batch, into shards."""

import collections
import concurrent.futures
import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from labeling.enlarging import Expert
from labeling.labels import Claims, LabelSpec, LabelStore, Span, images_in
from tfpipeline.batches import Answers, concatenate
from tfpipeline.images import ImageStore, Pixels
from tfpipeline.system import SILENT, Console, StopRequest, UserError

SECONDS_BETWEEN_LOOKS = 1.0  # at what another process has done
SAVED = "the finished shards are saved"

Answer = Callable[[np.ndarray], Answers]
AnswersT = TypeVar("AnswersT")


class Calls(NamedTuple):
    """How images are handed over to be answered.

    Attributes:
        images: at a time, at most. Batches do not reach over the end of a span, so that the answers in a shard do not
            depend on where the work began.
        parallel: how many threads ask at the same time.
        answer_from: (index of the first, images) -> their answers, where some are known already; None where all are to
            be asked for.
    """

    images: int
    parallel: int = 1
    answer_from: Callable[[int, np.ndarray], Any] | None = None


def spec_of(
    image_store: ImageStore,
    experts: Sequence[Expert],
    view_names: Sequence[str],
    k: int,
    shard_size: int,
    precision: str,
) -> LabelSpec:
    """The spec of the labels that these teachers give to these images; by TensorFlow, as long as nothing else is said.

    Args:
        image_store: the images.
        experts: the teachers.
        view_names: of the views to store, each one or several joined by "+".
        k: answers to keep; all classes where they are fewer.
        shard_size: images per shard.
        precision: the arithmetic of the teachers.
    """
    teacher = experts[0].teacher
    return LabelSpec(
        dataset=image_store.fingerprint,
        images_sha256=image_store.description["files"]["images.npy"],
        names_sha256=image_store.description["files"]["names.txt"],
        count=len(image_store),
        shard_size=shard_size,
        teachers=tuple(
            {**expert.teacher.describe(), "interpolation": expert.interpolation, "weight": expert.weight}
            for expert in experts
        ),
        classes=teacher.classes,
        class_names=teacher.class_names or (),
        top_k=min(k, teacher.classes),
        views=tuple(view_names),
        precision=precision,
        subset=teacher.subset,
        subset_of=teacher.subset_of,
    )


def label(
    images: Pixels,
    store: LabelStore,
    answer: Answer,
    calls: Calls,
    stop: StopRequest,
    console: Console = SILENT,
    names: Sequence[str] = (),
) -> int:
    """Labels what has no labels yet, sharing the work with other processes in the same directory.

    While batches are answered, the next ones are read; while one shard is answered, the last one is written. Of the
    seven parameters the last three only tell: when to end, how far it is, what an image is called.

    Args:
        images: uint8 (N, H, W, 3), memory-mapped.
        store: where the shards go.
        answer: images -> their answers as they are stored, such as an Answerer.
        calls: how it is called.
        stop: asked between shards.
        console: where progress goes.
        names: of the images, for messages; () where they have none.

    Returns:
        Number of images labeled by this process.

    Raises:
        UserError: an answer is no distribution, such as NaN; the message names the image. The shards before stay.
        Stopped: a signal came; the finished shards are on disk.
    """
    labeled, missing, waiting = 0, store.missing_spans(), False
    already = len(images) - images_in(missing)
    with console.bar("labeling", len(images), "image", done=already) as advance, Claims(store.directory) as claims:
        while missing:
            mine = claims.take(missing, store.is_done)
            batches = answer_batches(images, mine, answer, calls)
            done = _write_shards(batches, store, claims, stop, advance, names)
            labeled += done
            left = store.missing_spans()
            by_others = images_in(missing) - images_in(left) - done
            if by_others:
                advance(by_others)
            missing = left
            if missing and not done:
                if not waiting:
                    console.say(f"{images_in(missing):,} images are being labeled by another process; waiting for it")
                waiting = True
                stop.raise_if_requested(SAVED)
                time.sleep(SECONDS_BETWEEN_LOOKS)
    return labeled


def _write_shards(batches, store, claims, stop, advance, names):
    """Writes a shard for each span, gives the span back when it is durable, and returns the number of images."""
    labeled = 0

    def write(span, parts):
        answers = concatenate(parts)
        check_numbers(answers, span, names)
        store.write_shard(span, answers)
        claims.release(span)

    with contextlib.closing(batches), concurrent.futures.ThreadPoolExecutor(1) as writer:
        last = None
        for span, group in itertools.groupby(batches, key=lambda item: item[0]):
            parts = []
            for _, answers in group:
                parts.append(answers)
                advance(len(answers))
            labeled += span.images
            if last:
                last.result()
            last = writer.submit(write, span, parts)
            if stop.requested:
                last.result()
            stop.raise_if_requested(SAVED)
        if last:
            last.result()
    return labeled


def check_numbers(answers: Answers, span: Span, names: Sequence[str] = ()) -> None:
    """Checks that the answers to the images of a span are numbers.

    Args:
        answers: leading axes (n, views).
        span: the images that they are answers to.
        names: of all images; () where they have none.

    Raises:
        UserError: some are not; the message names the first of their images.
    """
    wrong = np.flatnonzero(np.isnan(answers.log_probs).any((1, 2)) | np.isnan(answers.log_tail).any(1))
    if len(wrong):
        first = span.first + int(wrong[0])
        raise UserError(
            f"the teachers answer NaN to image {first:,}{f' ({names[first]})' if len(names) else ''}, and to "
            f"{len(wrong)} of the images {span.first:,} to {span.last - 1:,} in all; nothing is written for these: "
            "leave such images out, or give another teacher"
        )


def answer_batches(
    images: Pixels, spans: Iterable[Span], answer: Callable[[np.ndarray], AnswersT], calls: Calls
) -> Generator[tuple[Span, AnswersT], None, None]:
    """(span, answers to a batch of it) one after another, in the order of the images.

    Args:
        images: uint8 (N, H, W, 3), memory-mapped.
        spans: each is taken when its turn comes.
        answer: images -> their answers.
        calls: how it is called. One batch more is read and waits.
    """

    def submit(span, first):
        batch = reader.submit(np.array, images[first : min(first + calls.images, span.last)])
        if calls.answer_from is None:
            return answerers.submit(lambda: answer(batch.result()))
        return answerers.submit(lambda: calls.answer_from(first, batch.result()))

    with (
        concurrent.futures.ThreadPoolExecutor(1) as reader,
        concurrent.futures.ThreadPoolExecutor(calls.parallel) as answerers,
    ):
        pending: collections.deque[tuple[Span, concurrent.futures.Future[AnswersT]]] = collections.deque()
        for span in spans:
            for first in range(span.first, span.last, calls.images):
                pending.append((span, submit(span, first)))
                if len(pending) > calls.parallel:
                    earliest, answers = pending.popleft()
                    yield earliest, answers.result()
        for span, answers in pending:
            yield span, answers.result()
