"""Which ranges of images have no labels yet, and the work of labeling them."""

import collections
import collections.abc
import concurrent.futures
import contextlib
import itertools
import time

import numpy as np

from labeling.labels import Claims, Labels, LabelSpec, LabelStore
from tfpipeline.system import SILENT

SECONDS_BETWEEN_LOOKS = 1.0  # at what another process has done


def spec_of(
    image_store,
    experts,
    views,
    k: int,
    shard_size: int,
    precision: str,
    runtime: str = "tensorflow",
    batch_size: int | None = None,
) -> LabelSpec:
    """The spec of the labels that these teachers give to these images.

    Args:
        image_store: a tfpipeline.images.store.ImageStore.
        experts: a sequence of answers.Expert.
        views: names of the views to store.
        k: answers to keep; all classes where they are fewer.
        shard_size: images per shard.
        precision: the arithmetic of the teachers.
        runtime: what computes their answers.
        batch_size: images per step.
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
        views=tuple(views),
        precision=precision,
        runtime=runtime,
        batch_size=batch_size,
        subset=teacher.subset,
        subset_of=teacher.subset_of,
    )


def label(
    images: np.ndarray,
    store: LabelStore,
    answer: collections.abc.Callable[[np.ndarray], Labels],
    batch_size: int,
    stop,
    console=SILENT,
    parallel: int = 1,
) -> int:
    """Labels what has no labels yet, sharing the work with other processes in the same directory.

    While batches are answered, the next ones are read; while one shard is answered, the last one is written.

    Args:
        images: uint8 (N, H, W, 3), memory-mapped.
        store: where the shards go.
        answer: images -> Labels, as answers.Answerer.
        batch_size: images per call of `answer`. Batches do not reach over the end of a shard, so that a shard's labels
            do not depend on where the work began.
        stop: a StopRequest, heard between shards.
        console: where progress goes.
        parallel: how many threads call `answer` at the same time.

    Returns:
        Number of images labeled by this process.

    Raises:
        Stopped: a signal came; the finished shards are on disk.
    """
    labeled, missing, waiting = 0, store.missing_ranges(), False
    already = len(images) - images_in(missing)
    with console.bar("labeling", len(images), "image", done=already) as advance, Claims(store.directory) as claims:
        while missing:
            mine = claims.take(missing, store.is_done)
            answered = answered_batches(images, mine, answer, batch_size, parallel)
            done = _write_shards(answered, store, claims, stop, advance)
            labeled += done
            left = store.missing_ranges()
            by_others = images_in(missing) - images_in(left) - done
            if by_others:
                advance(by_others)
            missing = left
            if missing and not done:
                if not waiting:
                    console.say(f"{images_in(missing):,} images are being labeled by another process; waiting for it")
                waiting = True
                stop.raise_if_requested("the finished shards are saved")
                time.sleep(SECONDS_BETWEEN_LOOKS)
    return labeled


def _write_shards(answered, store, claims, stop, advance):
    """Writes a shard for each range, gives the range back when it is durable, and returns the number of images."""
    labeled = 0

    def write(reached, parts):
        store.write_shard(*reached, concatenate(parts))
        claims.release(reached)

    with contextlib.closing(answered), concurrent.futures.ThreadPoolExecutor(1) as writer:
        written = None
        for reached, group in itertools.groupby(answered, key=lambda item: item[0]):
            parts = []
            for _, labels in group:
                parts.append(labels)
                advance(len(labels))
            labeled += reached[1] - reached[0]
            if written:
                written.result()
            written = writer.submit(write, reached, parts)
            if stop.requested:
                written.result()
            stop.raise_if_requested("the finished shards are saved")
        if written:
            written.result()
    return labeled


def images_in(ranges: collections.abc.Iterable[tuple[int, int]]) -> int:
    """How many images the ranges (first, last) hold."""
    return sum(last - first for first, last in ranges)


def answered_batches(
    images: np.ndarray,
    ranges: collections.abc.Iterable[tuple[int, int]],
    answer: collections.abc.Callable[[np.ndarray], Labels],
    batch_size: int,
    parallel: int,
) -> collections.abc.Generator[tuple[tuple[int, int], Labels], None, None]:
    """((first, last) of the range, Labels of a batch) one after another, in the order of the images.

    Args:
        images: uint8 (N, H, W, 3), memory-mapped.
        ranges: (first, last) of each, taken when its turn comes; none of the batches reaches over an end.
        answer: images -> Labels.
        batch_size: images per batch, at most.
        parallel: how many threads call `answer` at the same time. One batch more is read and waits for them.
    """
    with (
        concurrent.futures.ThreadPoolExecutor(1) as reader,
        concurrent.futures.ThreadPoolExecutor(parallel) as answerers,
    ):
        pending = collections.deque()
        for reached in ranges:
            for start in range(*reached, batch_size):
                batch = reader.submit(np.array, images[start : min(start + batch_size, reached[1])])
                pending.append((reached, answerers.submit(lambda batch=batch: answer(batch.result()))))
                if len(pending) > parallel:
                    earliest, labels = pending.popleft()
                    yield earliest, labels.result()
        for reached, labels in pending:
            yield reached, labels.result()


def concatenate(parts: collections.abc.Sequence[Labels]) -> Labels:
    """The labels of consecutive images as one."""
    columns = zip(*((part.top_k, part.log_probs, part.log_tail) for part in parts), strict=True)
    return Labels(*map(np.concatenate, columns))
