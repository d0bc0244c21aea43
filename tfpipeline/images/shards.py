"""Data sets in numbered files, as a source: which files are a split, whether all are there, and what their labels mean.

The split of a file is what stands before its number (`train-00000-of-00040`), else the last word for a split in its
name or in the names of its folders; files without one are the only split, `train`, where no file has one. The files of
a split come in the order of their numbers, and all lie in one folder: several folders are several data sets.
"""

import collections
import dataclasses
import functools
import pathlib
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tfpipeline.images.decoding import BrokenImage
from tfpipeline.images.file_names import escape_name, examine
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.folders import walk
from tfpipeline.images.places import require
from tfpipeline.images.source import Source
from tfpipeline.images.splits import Slice, Splits, WholeSplit, one_split, spellings_of, word_of
from tfpipeline.images.truth import MOST_CLASSES_WITHOUT_ROWS, Classes
from tfpipeline.system import FlagError, UserError

Label = int | str | None
_OF_SEVERAL = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of a data set.

    Attributes:
        name: its path within the data set, without its suffix, with "/" between its parts.
        fetch: () -> where it is; it is fetched first where it must be.
    """

    name: str
    fetch: Callable[[], pathlib.Path]


def local_shards(kind: str, path: pathlib.Path, suffixes: tuple[str, ...]) -> list[Shard]:
    """The files with one of the suffixes in a folder and those below it, but for hidden ones; of a file, that one.

    Raises:
        UserError: there are none.
    """
    require(kind, path)
    if path.is_file():
        return [Shard(_without_suffix(path.name, suffixes), lambda: path)]
    files = {file.relative_to(path).as_posix(): file for file, _ in walk(path)}
    found = [
        Shard(_without_suffix(name, suffixes), functools.partial(pathlib.Path, file))
        for name, file in files.items()
        if name.lower().endswith(suffixes) and examine(f"{name}.png").left_out is None
    ]
    if not found:
        raise UserError(f"{path} holds no file *{' or *'.join(suffixes)}; check the path after {kind}: in --images")
    return found


def _without_suffix(name, suffixes):
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def split_of(name: str) -> str | None:
    """The split that a shard's name says that it belongs to, or None."""
    *folders, stem = name.split("/")
    if match := _OF_SEVERAL.fullmatch(stem):
        return word_of(match[1]) or match[1]
    return next((word for part in (stem, *reversed(folders)) if (word := word_of(part))), None)


class ShardSource(Source):
    """The images of a data set in numbered files, in the order of their numbers.

    A file that is damaged as a whole is refused as a whole, or left out as a whole.

    Args:
        spec: as of `Source`.
        place: how messages call the data set.
        shards: its files, in any order.
        flags: as of `Source`.
        state: as of `Source`.
    """

    def __init__(self, spec: str, place: str, shards: Sequence[Shard], flags: ImageFlags, state: dict[str, typing.Any]):
        super().__init__(spec, flags, state)
        self.place, self._shards = place, shards
        self._parts: dict[str, _Part] = {}

    def labels_of(self, shard: Shard) -> Sequence[Label]:
        """The label of each image in a shard: a class's number or name, or None where it is not known.

        Raises:
            UserError: the shard cannot be read.
        """
        raise NotImplementedError

    def images_of(self, shard: Shard, first: int, last: int) -> Iterator[Callable[[], np.ndarray]]:
        """Yields what reads the pixels, or raises BrokenImage, of each of the images first..last-1 in a shard."""
        raise NotImplementedError

    def stated_names(self) -> Sequence[str] | None:
        """The names of the classes by their numbers, where the data set states them."""
        raise NotImplementedError

    @property
    def splits(self) -> Splits:
        return self._layout[0]

    @property
    def total(self) -> int:
        return sum(each.images for each in self._slices)

    @property
    def classes(self) -> Classes:
        return self._classes[0]

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        index_of = self._classes[1]
        for each in self._slices:
            position = 0
            for shard in self._layout[1][each.split]:
                labels, fault = self._part(shard)
                first, last = max(each.first - position, 0), min(each.last - position, len(labels))
                position += len(labels)
                if first >= last:
                    continue
                readers = iter([functools.partial(refuse, fault)]) if fault else self.images_of(shard, first, last)
                for row, read in zip(range(first, last), readers, strict=True):
                    yield f"{escape_name(shard.name)}-{row:07d}", read, index_of.get(labels[row])

    @functools.cached_property
    def _slices(self) -> list[Slice]:
        return self.splits.slices(self.split)

    @functools.cached_property
    def _layout(self) -> tuple[Splits, dict[str, list[Shard]]]:
        """(the splits, the shards of each in their order)"""
        by_split: dict[str | None, list[Shard]] = {}
        for shard in sorted(self._shards, key=lambda shard: _in_natural_order(shard.name)):
            by_split.setdefault(split_of(shard.name), []).append(shard)
        outside = by_split.pop(None, [])
        parts = {str(split): shards for split, shards in sorted(by_split.items(), key=str)}
        if not parts:
            names = [pathlib.PurePath(self.place).name]
            splits = one_split(self.place, names, lambda: self._count(outside))
            parts = dict.fromkeys(splits, outside)
        else:
            known = {split: WholeSplit(functools.partial(self._count, shards)) for split, shards in parts.items()}
            splits = Splits(self.place, known, spellings_of(list(parts)))
            if outside:
                self.notes.append(
                    f"{self.spec}: {len(outside):,} files are in no split, the first {escape_name(outside[0].name)};"
                    f" those of the splits ({', '.join(parts)}) have them in their names"
                )
        return splits, parts

    def _count(self, shards):
        self._check_one_data_set(shards)
        self._check_all_there(shards)
        return sum(len(self._part(shard).labels) for shard in shards)

    def _check_one_data_set(self, shards):
        folders = sorted({shard.name.rpartition("/")[0] for shard in shards})
        if len(folders) > 1:
            raise FlagError(
                f"{self.place} has the files of one split in {len(folders)} folders, which are several data sets; give"
                f" one of them: --images {self.flags.images}/{folders[-1]}"
            )

    def _check_all_there(self, shards):
        matches = [match for shard in shards if (match := _OF_SEVERAL.fullmatch(shard.name.rpartition("/")[2]))]
        if matches and not self.flags.skip_broken:
            there = {int(match[2]) for match in matches}
            missing = sorted(set(range(max(int(match[3]) for match in matches))) - there)
            if missing:
                first = f"{matches[0][1]}-{missing[0]:05d}-of-{matches[0][3]}"
                raise UserError(
                    f"{self.place} lacks {len(missing):,} of {len(missing) + len(there):,} files, the first {first}; "
                    "get them, or --skip-broken takes those that are there"
                )

    def _part(self, shard):
        if shard.name not in self._parts:
            try:
                self._parts[shard.name] = _Part(self.labels_of(shard))
            except UserError as error:
                if not self.flags.skip_broken:
                    raise
                # Nobody knows how many images it holds: it counts as one.
                self._parts[shard.name] = _Part([None], f"stands for a damaged file: {error}")
        return self._parts[shard.name]

    @functools.cached_property
    def _classes(self) -> tuple[Classes, Mapping[Label, int | None]]:
        """(classes, the index of each label that occurs) of the whole splits that are asked for, slices or not."""
        shards = [shard for split in {each.split: None for each in self._slices} for shard in self._layout[1][split]]
        labels = {label for shard in shards for label in self._part(shard).labels} - {None}
        names = self.stated_names()
        if names is not None:
            return _unique(names), self._indices(labels, names)
        numbers = {label for label in labels if isinstance(label, int)}
        if not numbers:
            texts = sorted(typing.cast(set[str], labels))
            return _unique(texts), self._indices(labels, texts)
        if numbers != labels:
            raise UserError(f"{self.place} has numbers and texts for labels; write all of them in one way")
        known: dict[Label, int | None] = {number: number for number in numbers if number >= 0}
        count = max(numbers) + 1
        if count > max(len(known), MOST_CLASSES_WITHOUT_ROWS):
            raise UserError(
                f"{self.place} has labels up to {count - 1:,}, but only {len(known):,} different ones; count the"
                " classes from 0 on, or name them"
            )
        return _unique([str(number) for number in range(count)]), known

    def _indices(self, labels, names):
        index_of = {name: i for i, name in enumerate(names)}
        indices = {label: label if isinstance(label, int) else index_of.get(label) for label in labels}
        for label, index in indices.items():
            if index is None or index >= len(names):
                raise UserError(
                    f"{self.place} has the label {label!r:.100}, which is none of the {len(names):,} classes that it "
                    "names; get it again, or correct the names"
                )
        return {label: index for label, index in indices.items() if index >= 0}


class _Part(typing.NamedTuple):
    """The label of each image of a shard, and why the shard is left out, or None."""

    labels: Sequence[Label]
    fault: str | None = None


def refuse(fault: str) -> typing.NoReturn:
    """Raises BrokenImage: what reads the pixels of an image that has none."""
    raise BrokenImage(fault)


def _in_natural_order(name):
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _unique(names: Sequence[str]) -> Classes:
    """The classes of these names; of names that several classes have, such as ImageNet's crane, with their numbers."""
    written = [escape_name(name) for name in names]
    times = collections.Counter(written)
    return tuple((f"{name} ({i})" if times[name] > 1 else name, name) for i, name in enumerate(written))
