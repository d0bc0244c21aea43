"""Image files in a folder or an archive, as a source."""

import functools
import pathlib
import typing
from collections.abc import Callable, Iterator

import numpy as np

from tfpipeline.images.archives import Images, describe
from tfpipeline.images.decoding import decode
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.listing import Entry
from tfpipeline.images.places import expand, require, state_of
from tfpipeline.images.source import Source
from tfpipeline.images.split_folders import find_split_folders, shared_folders
from tfpipeline.images.splits import Splits, WholeSplit, meanings_of, one_split, spellings_of, word_of
from tfpipeline.images.truth import Classes, classes_of_folders, join_csv
from tfpipeline.system import FlagError, sha256_of_file


class FileSource(Source):
    """Images sorted by name.

    Its splits are what `split_folders` finds, else `splits.one_split`: an archive or a folder without split folders has
    the split train, which its own name may call otherwise, too (`valid_64x64.tar`).

    The class of an image comes from the truth csv, else from its folder. Both are joined with all images of the splits
    that are asked for, slices or not, so that the slices of a split count the same classes.

    Args:
        kind: "folder" or "archive".
        path: where it is.
        flags: which of its images, and the csv file with their truth.
    """

    def __init__(self, kind: str, path: pathlib.Path, flags: ImageFlags):
        require(kind, path)
        if path.is_dir() != (kind == "folder"):
            found, other = ("a folder", "folder") if path.is_dir() else ("a file", "archive")
            raise FlagError(f"{path} is {found}; give --images {other}:{path}")
        self.path = path
        self._truth = None if flags.truth is None else expand(flags.truth)
        state: dict = {"files": state_of(path)}
        if self._truth is not None:
            files = (self._truth, self._truth.with_name("classes.csv"))
            state["truth"] = [sha256_of_file(file) if file.exists() else None for file in files]
        super().__init__(f"{kind}:{path.resolve().name}", flags, state)

    @property
    def splits(self) -> Splits:
        return self._layout.splits

    @property
    def total(self) -> int:
        return len(self._plan[0])

    @property
    def classes(self) -> Classes:
        return self._plan[2]

    def read_all(self) -> Iterator[tuple[str, Callable[[], np.ndarray], int | None]]:
        for entry, class_index in zip(*self._plan[:2], strict=True):
            yield entry.name, functools.partial(self._read, entry), class_index

    def _read(self, entry):
        return decode(self._images.read(entry), self.flags.size)

    @functools.cached_property
    def _images(self) -> Images:
        images = Images(self.path)
        if images.left_out:
            self.notes.append(f"{self.spec}: files left out: {describe(images.left_out)}")
        return images

    @functools.cached_property
    def _layout(self) -> "_Layout":
        entries = self._images.entries
        names = [entry.name for entry in entries]
        found = find_split_folders(names)
        if found is None:
            shared = shared_folders(names)
            self._note_folders_like_splits(names, len(shared))
            splits = one_split(str(self.path), [self.path.resolve().name, *shared], lambda: len(entries))
            return _Layout(splits, dict.fromkeys(splits, entries), str)
        parts: dict[str, list[Entry]] = {folder: [] for folder in sorted({name for name in found.folders if name})}
        outside: list[Entry] = []
        for entry, folder in zip(entries, found.folders, strict=True):
            (outside if folder is None else parts[folder]).append(entry)
        if outside:
            self.notes.append(
                f"{self.spec}: {len(outside):,} images lie beside the folders of splits ({', '.join(parts)}) and are in"
                f" no split, the first {outside[0].name}; if one of these folders is a class, give it another name"
            )
        known = {split: WholeSplit(functools.partial(len, part)) for split, part in parts.items()}
        return _Layout(Splits(str(self.path), known, spellings_of(list(parts))), parts, found.remove)

    def _note_folders_like_splits(self, names, level):
        folders = {folder for name in names for folder in name.split("/")[level:-1] if word_of(folder)}
        if len(meanings_of(folders)) > 1:
            self.notes.append(
                f"{self.spec}: folders with names like those of splits ({', '.join(sorted(folders))}) are taken for"
                " others, because not every image lies in one"
            )

    @functools.cached_property
    def _plan(self) -> tuple[list[Entry], list[int | None], Classes]:
        """(the entries asked for, class index or None of each, classes)"""
        slices, parts = self.splits.slices(self.split), self._layout.parts
        asked = [entry for each in slices for entry in parts[each.split][each.first : each.last]]
        whole = [entry.name for split in {each.split: None for each in slices} for entry in parts[split]]
        names = list(dict.fromkeys(whole))
        if self._truth is not None:
            class_indices, classes = join_csv(names, self._truth)
        else:
            class_indices, classes = self._classes_of_folders(names)
        class_of = dict(zip(names, class_indices, strict=True)) if classes else {}
        if len(asked) < len(whole):
            self._note_classes_missing(classes, {class_of.get(entry.name) for entry in asked})
        return asked, [class_of.get(entry.name) for entry in asked], classes

    def _classes_of_folders(self, names):
        """Where the images asked for lie in one folder, those of all splits may still tell of several classes."""
        class_indices, classes = classes_of_folders(list(map(self._layout.without_split, names)))
        if classes:
            return class_indices, classes
        every = list(dict.fromkeys(entry.name for part in self._layout.parts.values() for entry in part))
        class_indices, classes = classes_of_folders(list(map(self._layout.without_split, every)))
        class_of = dict(zip(every, class_indices, strict=True)) if classes else {}
        return [class_of.get(name) for name in names], classes

    def _note_classes_missing(self, classes, present):
        if missing := len(classes) - len(present - {None}):
            self.notes.append(
                f"{self.spec}: --split {self.split} holds no image of {missing:,} of {len(classes):,} classes, because"
                " slices follow the images' names; --hold-out 10% keeps a share of all of them"
            )


class _Layout(typing.NamedTuple):
    """The splits, the entries of each, and what takes the folder of a split out of an image's name."""

    splits: Splits
    parts: dict[str, list[Entry]]
    without_split: Callable[[str], str]
