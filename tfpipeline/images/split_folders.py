"""Which split each image of a folder or an archive belongs to, as the folders say that it lies in.

Folders that all images share do not count, as they do not for classes: in `pets/train/cat/1.png` it is `train`. Where
some of the first folders that differ are named like splits (`splits.is_split_name`), they are the splits, and what lies
beside them belongs to none; where each has a word for another split in its name, as train2017 and val2017, all are
(`splits.are_splits`). Where each class has its own (`cat/train/1.png`), the first folder so named is the split,
provided that every image has one. Elsewhere there are no split folders.
"""

import functools
import typing
from collections.abc import Callable

from tfpipeline.images.splits import are_splits, is_split_name


class SplitFolders(typing.NamedTuple):
    """The split folder of each image, None where it is in no split; and what takes that folder out of a name."""

    folders: list[str | None]
    remove: Callable[[str], str]


def find_split_folders(names: list[str]) -> SplitFolders | None:
    """The split folders of images by their names, or None where there are none."""
    paths = [name.split("/")[:-1] for name in names]
    level = 0
    while True:
        folders = {path[level] for path in paths if len(path) > level}
        splits = folders if are_splits(folders) else set(filter(is_split_name, folders))
        if splits:
            found = [path[level] if len(path) > level and path[level] in splits else None for path in paths]
            return SplitFolders(found, functools.partial(_remove_folder, level))
        if len(folders) != 1:
            break
        level += 1
    found = [next(filter(is_split_name, path), None) for path in paths]
    return None if None in found else SplitFolders(found, _remove_split_folder)


def _remove_folder(level, name):
    folders = name.split("/")
    return "/".join(folders[:level] + folders[level + 1 :])


def _remove_split_folder(name):
    folders = name.split("/")[:-1]
    return _remove_folder(next(i for i, folder in enumerate(folders) if is_split_name(folder)), name)


def shared_folders(names: list[str]) -> list[str]:
    """The folders that all images lie in, from the top down."""
    first, last = (name.split("/")[:-1] for name in (min(names), max(names)))  # What these share, all between do.
    shared = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared.append(one)
    return shared
