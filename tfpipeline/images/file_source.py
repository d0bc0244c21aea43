"""Image files in a folder or an archive, as a source."""

import functools
import hashlib
import pathlib

from tfpipeline.images.archives import Images, walk
from tfpipeline.images.decoding import decode
from tfpipeline.images.source import Source
from tfpipeline.images.truth import classes_of_folders, join_csv
from tfpipeline.system import FlagError, UserError, sha256_of_file

SPLIT_FOLDERS = ("train", "valid", "val", "validation", "test")


class FileSource(Source):
    """Images sorted by name.

    The class of an image comes from the truth csv, else from its folder. Where folders at the top are named like splits
    (train, valid, val, validation, test), the split picks one; elsewhere it is only a name.

    Args:
        kind: "folder" or "archive".
        path: where it is.
        split: the part of it.
        truth: a csv file (file, wnid, class_index), or None.
        size: height and width to resample to, in pixels; None keeps those of the images.
        skip_broken: leave out images that cannot be read, rather than refuse.
        limit: the first so many images; None for all.
    """

    def __init__(self, kind, path: pathlib.Path, split, truth: pathlib.Path | None, size, skip_broken, limit):
        require(kind, path)
        if path.is_dir() != (kind == "folder"):
            found, other = ("a folder", "folder") if path.is_dir() else ("a file", "archive")
            raise FlagError(f"{path} is {found}; give --images {other}:{path}")
        state = {"files": state_of(path), "size": size}
        if truth is not None:
            state["truth"] = [_sha256_if_there(file) for file in (truth, truth.with_name("classes.csv"))]
        super().__init__(f"{kind}:{path.resolve().name}", split, state, skip_broken, limit)
        self.path, self.truth, self.size = path, truth, size

    @property
    def total(self):
        return len(self._plan[0])

    @property
    def classes(self):
        return self._plan[2]

    def read_all(self):
        for entry, class_index in zip(*self._plan[:2], strict=True):
            yield entry.name, functools.partial(self._read, entry), class_index

    def _read(self, entry):
        return decode(self._images.read(entry), self.size)

    @functools.cached_property
    def _images(self):
        return Images(self.path)

    @functools.cached_property
    def _plan(self):
        """(entries of the split, class index or None of each, classes)"""
        entries = self._of_split(self._images.entries)
        names = list(dict.fromkeys(entry.name for entry in entries))
        if self.truth is not None:
            class_indices, classes = join_csv(names, self.truth)
        else:
            class_indices, classes = classes_of_folders(names)
        class_of = dict(zip(names, class_indices, strict=True)) if classes else {}
        return entries, [class_of.get(entry.name) for entry in entries], classes

    def _of_split(self, entries):
        folders = sorted({entry.name.split("/")[0] for entry in entries if "/" in entry.name} & set(SPLIT_FOLDERS))
        if not folders:
            return entries
        if self.split not in folders:
            raise FlagError(f"{self.path} has no split {self.split!r}; give --split {' or '.join(folders)}")
        return [entry for entry in entries if entry.name.startswith(f"{self.split}/")]


def require(kind: str, path: pathlib.Path) -> None:
    """Raises UserError where there is nothing at `path`."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; check the path after {kind}: in --images")


def state_of(path: pathlib.Path) -> str:
    """What changes when the files at `path` change: a hash of the path, size and modification time of each."""
    digest = hashlib.sha256()
    for file in sorted(walk(path)) if path.is_dir() else [path]:
        status = file.stat() if file.exists() else None
        state = f"{file.absolute()}\0{status and (status.st_size, status.st_mtime_ns)}\n"
        digest.update(state.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _sha256_if_there(path):
    return sha256_of_file(path) if path.exists() else None
