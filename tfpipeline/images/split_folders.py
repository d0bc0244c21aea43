"""Which split each image of a folder or an archive belongs to, as the folders say that it lies in.

Folders that all images share do not count, as they do not for classes: in `pets/train/cat/1.png` it is `train`. Where
some of the first folders that differ are named like splits (`splits.is_split_name`), they are the splits, and what lies
beside them belongs to none. Where each class has its own (`cat/train/1.png`), the first folder so named is the split,
provided that every image has one. Elsewhere there are no split folders.
"""

from tfpipeline.images.splits import is_split_name


def find_splits(names: list[str]) -> list[str | None] | None:
    """The split folder of each image.

    Args:
        names: of the images, folders included.

    Returns:
        As many as names, None for an image that is in no split; or None where there are no split folders.
    """
    paths = [name.split("/")[:-1] for name in names]
    level = 0
    while True:
        folders = {path[level] for path in paths if len(path) > level}
        if any(map(is_split_name, folders)):
            return [path[level] if len(path) > level and is_split_name(path[level]) else None for path in paths]
        if len(folders) != 1:
            break
        level += 1
    firsts = [_first_split_folder(path) for path in paths]
    return None if None in firsts else firsts


def without_split(name: str) -> str:
    """The name of an image of a split without the folder that names the split."""
    folders = name.split("/")
    split = _first_split_folder(folders[:-1])
    if split is not None:
        folders.remove(split)
    return "/".join(folders)


def shared_folders(names: list[str]) -> list[str]:
    """The folders that all images lie in, from the top down."""
    first, last = (name.split("/")[:-1] for name in (min(names), max(names)))  # What these share, all between do.
    shared = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared.append(one)
    return shared


def _first_split_folder(folders):
    return next(filter(is_split_name, folders), None)
