"""The public .npz files of ImageNet downsampled to 64x64 (Chrabaszcz et al. 2017), as a source.

Each holds `data` uint8 (N, 3 H W), channels first, and `labels` from 1 to 1000 in an order of its own. The classes come
in the usual order here, that of sorted WordNet ids.
"""

import contextlib
import functools
import importlib.util
import math
import pathlib
import re
import zipfile
import zlib

import numpy as np

from tfpipeline.images.decoding import MAX_PIXELS, resample_pixels
from tfpipeline.images.file_source import require, state_of
from tfpipeline.images.source import Source
from tfpipeline.system import FlagError, UserError

_SPLITS = {"train": "train_data*.npz", **dict.fromkeys(("valid", "val", "validation"), "val_data*.npz")}
_MAX_IMAGES = 100_000_000  # in one file, whatever its header states
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, NotImplementedError)


class NpzSource(Source):
    """The rows of one file, or of the files of a split in a folder, in the order of their numbers.

    Args:
        path: an .npz file, for which the split is only a name; or a folder with train_data_batch_1.npz to
            train_data_batch_10.npz and val_data.npz.
        split: "train", or "valid", "val" or "validation".
        size: height and width to resample to, in pixels; None keeps those of the images.
        limit: the first so many images; None for all.

    Raises:
        UserError: a file is missing, damaged, or no such file; a damaged one is refused as a whole.
    """

    def __init__(self, path: pathlib.Path, split, size, limit):
        require("npz", path)
        state = {"files": state_of(path), "size": size}
        super().__init__(f"npz:{path.resolve().name}", split, state, skip_broken=False, limit=limit)
        self.size = size
        self.files = [path] if path.is_file() else _files_of(path, split)

    @property
    def total(self):
        return sum(len(labels) for labels in self._labels)

    @property
    def classes(self):
        return tuple((wnid, wnid) for wnid in sorted(resized_order()))

    @functools.cached_property
    def _labels(self):
        """The class of each image, one array per file."""
        own = resized_order()
        index_of = {wnid: i for i, wnid in enumerate(sorted(own))}
        usual = np.array([index_of[wnid] for wnid in own])
        return [usual[_read_labels(file, len(own)) - 1] for file in self.files]

    def read_all(self):
        for file, labels in zip(self.files, self._labels, strict=True):
            for i, (class_index, pixels) in enumerate(zip(labels.tolist(), _rows(file, len(labels)), strict=True)):
                read = functools.partial(resample_pixels, pixels, self.size)
                yield f"{file.stem}-{i:07d}", read, class_index


def resized_order() -> list[str]:
    """The 1000 WordNet ids in the order of the downsampled ImageNet's labels, from the package that ships them."""
    package = pathlib.Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
    return (package / "image_classification" / "imagenet_resized_labels.txt").read_text().split()


def _files_of(folder, split):
    if split not in _SPLITS:
        raise FlagError(f"npz: has no split {split!r}; give --split train or valid")
    files = sorted(folder.glob(_SPLITS[split]), key=lambda file: [int(n) for n in re.findall(r"\d+", file.name)])
    if not files:
        raise UserError(f"{folder} holds no {_SPLITS[split]} for split {split}; check the path after npz: and --split")
    return files


def _read_labels(file, classes):
    with _member(file, "labels") as (stream, shape, dtype):
        if len(shape) != 1 or dtype.kind not in "iu":
            raise UserError(f"{file}: labels is {dtype} {shape}, not a row of integers; get the file again")
        labels = np.frombuffer(stream.read(dtype.itemsize * min(shape[0], _MAX_IMAGES)), dtype).astype(np.int64)
    if labels.size != shape[0] or labels.size == 0:
        raise UserError(f"{file}: labels has {labels.size} numbers of {shape[0]}; get the file again")
    if labels.min() < 1 or labels.max() > classes:
        raise UserError(
            f"{file}: labels run from {labels.min()} to {labels.max()}, not within 1 to {classes} as in the public"
            " files; give the images as folder: or archive:"
        )
    return labels


def _rows(file, count):
    """Yields each image of a file, uint8 (H, W, 3); one is in memory at a time."""
    with _member(file, "data") as (stream, shape, dtype):
        side = math.isqrt(shape[1] // 3) if len(shape) == 2 and shape[1] <= 3 * MAX_PIXELS else 0
        if dtype != np.uint8 or shape != (count, 3 * side * side) or side == 0:
            raise UserError(
                f"{file}: data is {dtype} {shape}, not uint8 ({count}, 3 x height x width); get the file again"
            )
        for _ in range(count):
            row = stream.read(shape[1])
            if len(row) < shape[1]:
                raise EOFError("data ends early")
            yield np.ascontiguousarray(np.frombuffer(row, np.uint8).reshape(3, side, side).transpose(1, 2, 0))


@contextlib.contextmanager
def _member(file, name):
    """A context that yields (stream after the header, shape, dtype) of an array in an .npz file; unpickles nothing."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("an unknown version of the .npy format")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype.hasobject:
                raise UserError(f"{file}: {name} holds pickled objects, which are never read; get the file elsewhere")
            if fortran_order and len(shape) > 1:
                raise UserError(f"{file}: {name} is in Fortran order; save it in C order")
            yield stream, shape, dtype
    except KeyError:
        raise UserError(f"{file} has no array {name!r}; it must hold data and labels like the public files") from None
    except _DAMAGED as error:
        raise UserError(f"{file} is damaged or no .npz file ({error or type(error).__name__}); get it again") from error
