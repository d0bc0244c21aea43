"""A label store whose answers can be told without reading it."""

import dataclasses

import numpy as np

from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels
from tfpipeline.batches import Answers

COUNT, K, TOP = 6, 4, 2
NAMES = ("a", "b", "c", "d")
SPEC = LabelSpec(
    dataset="d" * 64,
    images_sha256="1" * 64,
    names_sha256="2" * 64,
    count=COUNT,
    shard_size=4,
    teachers=({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},),
    classes=K,
    class_names=NAMES,
    top_k=TOP,
)


def labels(directory, **changes):
    """A whole label store whose first answer to view v of image i is class (i + v) % K, with probability 1/2 + v/8."""
    spec = dataclasses.replace(SPEC, **changes)
    stored = create_labels(directory, spec)
    number = np.arange(len(spec.views))
    first_probs = 0.5 + number / 8
    for span in stored.spans:
        n = span.images
        top = (np.arange(span.first, span.last)[:, None] + number) % K
        probs = np.stack([first_probs, (1 - first_probs) / 2], -1)
        stored.write_shard(
            span,
            Answers(
                np.stack([top, (top + 1) % K], -1).astype(np.uint16),
                np.log(np.tile(probs, (n, 1, 1))).astype(np.float16),
                np.log(np.tile(probs[:, 1], (n, 1))).astype(np.float16),
            ),
        )
    return str(directory)
