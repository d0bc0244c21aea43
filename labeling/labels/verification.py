"""Checks of a label store: which shards are whole, and whether the teacher still answers what they say."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from labeling.labels.span import Span, images_in
from labeling.labels.store import LabelStore
from tfpipeline.batches import Answers, concatenate
from tfpipeline.images import Pixels
from tfpipeline.system import UserError

ASIDE = "damaged"
# Rounding differs between machines and batch sizes; among 10,000 images a few change their first answer by it.
LEAST_AGREEMENT = 0.99


@dataclasses.dataclass(frozen=True)
class Status:
    """What is on disk.

    Attributes:
        done: the spans of images with a verified shard.
        missing: the other spans.
        damaged: file -> what is wrong with it.
    """

    done: list[Span]
    missing: list[Span]
    damaged: dict[pathlib.Path, str]

    def figures(self) -> dict[str, int]:
        """The numbers of it."""
        return {
            "labeled": images_in(self.done),
            "missing": images_in(self.missing),
            "shards": len(self.done),
            "missing_shards": len(self.missing),
            "damaged_shards": len(self.damaged),
        }


def status(store: LabelStore) -> Status:
    """The state of a store, every shard read and verified."""
    verified, damaged = store.shards()
    done = [span for span in store.spans if span in verified]
    return Status(done, [span for span in store.spans if span not in verified], damaged)


def set_aside(found: Status) -> list[pathlib.Path]:
    """Moves the damaged files into the folder `damaged` of their store, and returns where they are now."""
    moved = []
    for path in found.damaged:
        path.parent.joinpath(ASIDE).mkdir(exist_ok=True)
        moved.append(path.rename(path.parent / ASIDE / path.name))
    return moved


def check_whole(store: LabelStore, found: Status) -> None:
    """Checks that every image has verified labels.

    Raises:
        UserError: some have none, or a file is damaged; the first few are named.
    """
    if found.damaged:
        named = "; ".join(f"{path.name} {problem}" for path, problem in list(found.damaged.items())[:5])
        raise UserError(
            f"labels {store.directory}: {len(found.damaged):,} damaged files ({named}); --repair remakes them"
        )
    if found.missing:
        named = ", ".join(f"{first:,} to {last - 1:,}" for first, last in found.missing[:5])
        raise UserError(
            f"labels {store.directory}: no labels yet for {len(found.missing):,} ranges of images ({named}); "
            "run the same command without --verify to go on"
        )


def recompute(
    images: Pixels,
    store: LabelStore,
    answer: Callable[[np.ndarray], Answers],
    batch_size: int,
    sample: int,
) -> dict[str, float]:
    """Answers a sample of the images once more and compares.

    Args:
        images: uint8 (N, H, W, 3).
        store: their labels, whole.
        answer: images -> their answers, leading axes (n, views).
        batch_size: images per call of `answer`.
        sample: how many images, chosen at random without repetition, the same ones each time.

    Returns:
        recomputed: how many; recomputed_same_top1: share of answers whose class is the stored one, over all views;
        recomputed_difference: largest difference of the first answer's probability.

    Raises:
        UserError: fewer than LEAST_AGREEMENT of the answers are the stored ones.
    """
    stored = store.read_all()
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:sample])
    starts = range(0, len(chosen), batch_size)
    again = concatenate([answer(images[chosen[start : start + batch_size]]) for start in starts])
    before = stored[chosen]
    same = float(np.mean(again.first == before.first))
    difference = float(np.abs(_confidence(again) - _confidence(before)).max())
    if same < LEAST_AGREEMENT:
        raise UserError(
            f"labels {store.directory}: recomputed, {same:.1%} of {len(chosen):,} images get the stored first answer "
            f"(probabilities differ by up to {difference:.3f}); label again into a new directory"
        )
    return {"recomputed": len(chosen), "recomputed_same_top1": same, "recomputed_difference": difference}


def _confidence(answers):
    return np.exp(answers.log_probs[..., 0].astype(np.float64))
