"""Images kept back to measure on: a share of a store, chosen by the images' names, and none that is trained on as well.

An image stays on its side when others are added or removed, whatever their order: where it goes is a hash of its name
and the seed. Images with the same pixels go together.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from tfpipeline.images.file_names import compose_name
from tfpipeline.images.rows import Rows
from tfpipeline.images.store import ImageStore
from tfpipeline.system import FlagError, UserError


def parse_share(text: str) -> float:
    """The share that `--hold-out` names, such as "10%" or "0.1", above 0 and below 1.

    Raises:
        FlagError: it is none.
    """
    form = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)(%?)", text.strip())
    share = 0.0 if form is None else float(form[1]) / (100 if form[2] else 1)
    if not 0 < share < 1:
        raise FlagError(f"--hold-out {text} is no share of the images; give one like 10%, above 0% and below 100%")
    return share


def hold_out_mask(names: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which images are held out, bool (N,): each by itself, with a probability of `share`.

    Of two images and more, one at least is held out and one is left: that with the smallest or the largest hash.

    Args:
        names: of the images; accents count the same however they are composed.
        share: above 0 and below 1.
        seed: another one holds out others.
    """
    hashes = _hashes(names, seed)
    mask = hashes < np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    if len(mask) > 1 and mask.all():
        mask[hashes.argmax()] = False
    if len(mask) > 1 and not mask.any():
        mask[hashes.argmin()] = True
    return mask


def draw_by_name(names: Sequence[str], count: int) -> np.ndarray:
    """Indices of at most `count` images, those with the smallest hashes of their names, in order, int64."""
    return np.sort(np.argsort(_hashes(names, 0), kind="stable")[:count])


def _hashes(names, seed):
    """uint64 (N,): accents count the same however they are composed."""
    return np.array([_hash(f"{seed}\0{compose_name(name)}") for name in names], np.uint64)


def _hash(text):
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])


def hold_out(store: ImageStore, share: float, seed: int) -> tuple[ImageStore, ImageStore]:
    """The images of a store to train on, and those held out: all with the pixels of one that `hold_out_mask` names.

    Raises:
        UserError: one side would be empty.
    """
    mask = hold_out_mask(store.names, share, seed)
    mask = np.isin(store.digests, store.digests[mask])
    if mask.all() or not mask.any():
        raise UserError(
            f"--hold-out {share:.4g} of {len(store):,} images leaves one side empty; give more images, another "
            "share, or --hold-out none"
        )
    return select(store, np.flatnonzero(~mask)), select(store, np.flatnonzero(mask))


def select(store: ImageStore, indices: np.ndarray) -> ImageStore:
    """Some images of a store, as a store that reads them where they are.

    Args:
        store: the images, whole or a selection themselves.
        indices: int64 (N,), which of its images, in which order.

    Returns:
        A store of N images. `rows` tells where they stand in the whole store: what is joined with that, such as labels,
        is taken by these. `description` stays that of the whole store; `fingerprint` is another.
    """
    indices = np.asarray(indices, np.int64)
    whole = store.images.array if isinstance(store.images, Rows) else store.images
    rows = indices if store.rows is None else store.rows[indices]
    identity = hashlib.sha256(store.fingerprint.encode() + indices.tobytes()).hexdigest()
    return dataclasses.replace(
        store,
        images=Rows(whole, rows),
        truth=store.truth[indices],
        names=[store.names[i] for i in indices],
        fingerprint=identity,
        rows=rows,
    )


def overlap(one: ImageStore, other: ImageStore) -> int:
    """How many images of `other` have the very pixels of an image of `one`; 0 where they are of other sizes."""
    if one.images.shape[1:] != other.images.shape[1:]:
        return 0
    return int(np.isin(other.digests, one.digests).sum())
