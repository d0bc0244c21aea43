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
import typing
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from tfpipeline.images.decoding import MAX_PIXELS, BrokenImage, resample_pixels
from tfpipeline.images.file_names import escape_name
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.places import require, state_of
from tfpipeline.images.source import Source
from tfpipeline.images.splits import Splits, WholeSplit, one_split
from tfpipeline.images.truth import Classes
from tfpipeline.system import UserError

_FILES = {"train": "train_data*.npz", "valid": "val_data*.npz"}
_WORDS = {"val": "valid", "validation": "valid"}
_MAX_IMAGES = 100_000_000  # in one file, whatever its header states


class NpzSource(Source):
    """The rows of one file, or of the files of a split in a folder, in the order of their numbers.

    A damaged file is refused as a whole, or left out as a whole: its checksum tells of all its images together.

    Args:
        path: an .npz file, whose only split is `splits.one_split`; or a folder with train_data_batch_1.npz to
            train_data_batch_10.npz and val_data.npz, which are the splits train and valid (or val, or validation).
        flags: which of the images.

    Raises:
        UserError: a file is missing, damaged, or no such file.
        FlagError: there is no such split.
    """

    def __init__(self, path: pathlib.Path, flags: ImageFlags):
        require("npz", path)
        super().__init__(f"npz:{path.resolve().name}", flags, {"files": state_of(path)})
        self.path = path
        self._parts: dict[pathlib.Path, _Part] = {}
        if path.is_dir() and flags.split in _FILES and not self._files(flags.split):
            raise UserError(
                f"{path} holds no {_FILES[flags.split]} for split {flags.split}; check the path after npz: and --split"
            )
        self._slices = self.splits.slices(flags.split)

    @property
    def splits(self) -> Splits:
        if self.path.is_file():
            return one_split(str(self.path), [self.path.stem], lambda: self._count_images("train"))
        known = {split: WholeSplit(functools.partial(self._count_images, split)) for split in _FILES}
        return Splits(f"npz:{self.path}", {split: known[split] for split in _FILES if self._files(split)}, _WORDS)

    @property
    def total(self) -> int:
        return sum(each.images for each in self._slices)

    @property
    def classes(self) -> Classes:
        return tuple((wnid, wnid) for wnid in sorted(resized_order()))

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        for each in self._slices:
            position = 0
            for file in self._files(each.split):
                part = self._part(file)
                for i, (class_index, read) in enumerate(self._read_file(file, part), position):
                    if each.first <= i < each.last:
                        yield f"{escape_name(file.stem)}-{i - position:07d}", read, class_index
                position += len(part.class_indices)

    def _read_file(self, file, part):
        """(class index, function that reads the pixels) of each image."""
        if part.fault is not None:
            for class_index in part.class_indices:
                yield class_index, functools.partial(_refuse, part.fault)
            return
        for class_index, pixels in zip(part.class_indices, _rows(file, len(part.class_indices)), strict=True):
            yield class_index, functools.partial(resample_pixels, pixels, self.flags.size)

    def _files(self, split):
        if self.path.is_file():
            return [self.path]
        files = self.path.glob(_FILES[split])
        return sorted(files, key=lambda file: [int(number) for number in re.findall(r"\d+", file.name)])

    def _count_images(self, split):
        return sum(len(self._part(file).class_indices) for file in self._files(split))

    def _part(self, file):
        if file not in self._parts:
            self._parts[file] = _examine(file) if self.flags.skip_broken else _Part(_class_indices(file))
        return self._parts[file]


class _Part(typing.NamedTuple):
    """The class index of each image of a file, None where it is not known, and why the file is left out, or None."""

    class_indices: typing.Sequence[int | None]
    fault: str | None = None


def _examine(file):
    """What a file holds, read whole; where nobody knows how many images a damaged one holds, it counts as one."""
    class_indices = [None]
    try:
        class_indices = _class_indices(file)
        for _ in _rows(file, len(class_indices)):
            pass
    except UserError as error:
        return _Part(class_indices, f"lies in a damaged file: {error}")
    return _Part(class_indices)


def _refuse(fault):
    raise BrokenImage(fault)


def _class_indices(file):
    own = resized_order()
    index_of = {wnid: i for i, wnid in enumerate(sorted(own))}
    usual = np.array([index_of[wnid] for wnid in own])
    return usual[_read_labels(file, len(own)) - 1].tolist()


def resized_order() -> list[str]:
    """The 1000 WordNet ids in the order of the downsampled ImageNet's labels, from the package that ships them."""
    package = importlib.util.find_spec("tensorflow_datasets")
    if package is None or package.origin is None:
        raise UserError("tensorflow-datasets is not installed, which ships the order of the classes; install it")
    folder = pathlib.Path(package.origin).parent / "image_classification"
    return (folder / "imagenet_resized_labels.txt").read_text().split()


def _read_labels(file, classes):
    with _member(file, "labels") as (stream, shape, dtype):
        if len(shape) != 1 or dtype.kind not in "iu":
            raise UserError(f"{file}: labels is {dtype} {shape}, not a row of integers; get the file again")
        labels = np.frombuffer(stream.read(dtype.itemsize * min(shape[0], _MAX_IMAGES)), dtype).astype(np.int64)
        _read_to_end(stream)
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
        _read_to_end(stream)


def _read_to_end(stream):
    """Where the checksum is verified."""
    while stream.read(1 << 20):
        pass


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
            if any(length < 0 for length in shape):
                raise ValueError(f"{name} of shape {shape}")
            yield stream, shape, dtype
    except UserError:
        raise
    except KeyError:
        raise UserError(f"{file} has no array {name!r}; it must hold data and labels like the public files") from None
    except Exception as error:
        # Over damaged bytes the readers of zip and npy raise nearly anything.
        raise UserError(f"{file} is damaged or no .npz file ({error or type(error).__name__}); get it again") from error
