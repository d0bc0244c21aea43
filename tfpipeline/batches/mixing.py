"""Mixtures of two training images and of what is known of them: mixup and cutmix, pure functions of seed and step.

A mixing is a function (images, random) -> (images, partner, own_weight):

    images      uint8 (B, H, W, C)
    random      a numpy.random.Generator that belongs to the step
    partner     int64 (B,), whose image is mixed into each
    own_weight  float32 (B,), how much of each is its own, in [0, 1]
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfpipeline.system import FlagError

PARTNER = "partner_"
OWN_WEIGHT = "own_weight"

Mixing = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]


def random_of_step(seed: int, step: int) -> np.random.Generator:
    """The generator of a step; another part of Philox's sequence than the one that orders the images."""
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 1]))


def mixup(alpha: float) -> Mixing:
    """Weighted means of two images, the weight from Beta(alpha, alpha) (Zhang et al. 2018)

        y = w x + (1 - w) x[partner]

    Args:
        alpha: above 0; small ones mix little, 1 mixes evenly.
    """
    _check_alpha(alpha)

    def mix(images, random):
        partner = random.permutation(len(images))
        weight = random.beta(alpha, alpha, len(images)).astype(np.float32)
        share = weight[:, None, None, None]
        return np.rint(share * images + (1 - share) * images[partner]).astype(np.uint8), partner, weight

    return mix


def cutmix(alpha: float) -> Mixing:
    """A window of another image in each; the weight is the share of pixels that are left (Yun et al. 2019)

    The window has the image's aspect, the area 1 - w with w from Beta(alpha, alpha) and its center anywhere; what
    reaches over the edge is cut.

    Args:
        alpha: above 0.
    """
    _check_alpha(alpha)

    def mix(images, random):
        batch, height, width, _ = images.shape
        partner = random.permutation(batch)
        side = np.sqrt(1 - random.beta(alpha, alpha, batch))
        rows = _interval(random.random(batch), side, height)
        columns = _interval(random.random(batch), side, width)
        window = rows[:, :, None] & columns[:, None, :]
        weight = 1 - window.mean((1, 2), dtype=np.float32)
        return np.where(window[..., None], images[partner], images), partner, weight

    return mix


MIXINGS = {"mixup": mixup, "cutmix": cutmix}


def parse_mixing(text: str) -> Mixing | None:
    """The mixing that a flag describes, such as "mixup:0.2"; None for "none".

    Raises:
        FlagError: the text is no mixing.
    """
    if text == "none":
        return None
    name, _, alpha = text.partition(":")
    try:
        return MIXINGS[name](float(alpha))
    except (KeyError, ValueError) as error:
        raise FlagError(f"--mix {text}: write none, mixup:ALPHA or cutmix:ALPHA, ALPHA above 0") from error


def partners_of(batch: dict[str, Any]) -> dict[str, Any]:
    """What a mixed batch knows of the partners, by the names that its own targets have."""
    return {name.removeprefix(PARTNER): array for name, array in batch.items() if name.startswith(PARTNER)}


def _interval(center, side, length):
    """Which of `length` pixels lie within side * length around center * length: bool (B, length)."""
    pixels = np.arange(length) + 0.5
    return np.abs(pixels - center[:, None] * length) < side[:, None] * length / 2


def _check_alpha(alpha):
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0")
