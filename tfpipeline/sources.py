"""Where images come from: a spec such as `folder:DIR`, opened to a series of pixels in a fixed order."""

import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np
import PIL

from tfpipeline import shapes
from tfpipeline.archives import Images
from tfpipeline.decoding import BrokenImage, decode, resample_pixels
from tfpipeline.durable import sha256_of_file
from tfpipeline.errors import FlagError, UserError
from tfpipeline.truth import Classes, classes_of_folders, join_csv

SPLIT_FOLDERS = ("train", "valid", "val", "validation", "test")


class Source:
    """A series of images. Iterating yields (name, pixels, truth), the same series in the same order each time.

    `name` is one line of text and unique; `pixels` is uint8 (H, W, 3), C order; `truth` is the index of the class or
    None where it is not known.

    Attributes:
        spec: what the images are, without the folder that they lie in: moved images stay the same images.
        split: the part of the source.
        version: of the source where it has one.
        depends_on: all that decides about the images, as a dict of JSON values: unchanged, it needs no second look.
        left_out: (name, reason) of each image left out in the latest pass because it is broken.
    """

    version = ""

    def __init__(self, spec: str, split: str, depends_on: dict, limit: int | None):
        self.spec, self.split, self.limit = spec, split, limit
        self.depends_on = {"spec": spec, "split": split, "limit": limit, "pillow": PIL.__version__, **depends_on}
        self.left_out: list[tuple[str, str]] = []

    @property
    def skipped(self) -> list[str]:
        """Names of the images left out in the latest pass."""
        return [name for name, _ in self.left_out]

    @property
    def count(self) -> int | None:
        """How many images a pass yields at most; None where nobody knows."""
        raise NotImplementedError

    @property
    def classes(self) -> Classes:
        """(WordNet id or name, name to show) of each class, in the order that `truth` counts; empty where unknown."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, int | None]]:
        raise NotImplementedError


class ShapesSource(Source):
    """The built-in pictures; `limit` may ask for more than the default count."""

    version = shapes.VERSION
    classes = tuple((name, name) for name in shapes.NAMES)

    def __init__(self, split, size, limit):
        if split not in shapes.DEFAULT_COUNTS:
            raise FlagError(f"shapes has no split {split!r}; give --split {' or '.join(shapes.DEFAULT_COUNTS)}")
        super().__init__("shapes", split, {"version": self.version, "numpy": np.__version__, "size": size}, limit)
        self.size = size

    @property
    def count(self):
        return shapes.DEFAULT_COUNTS[self.split] if self.limit is None else self.limit

    def __iter__(self):
        for i in range(self.count):
            pixels, class_index = shapes.draw(0, self.split, i)
            yield f"{self.split}-{i:07d}", resample_pixels(pixels, self.size), class_index


class FileSource(Source):
    """Image files in a folder or an archive, sorted by name.

    The class of an image comes from the truth csv, else from its folder. Where folders at the top are named like splits
    (train, valid, val, validation, test), the split picks one; elsewhere it is only a name.
    """

    def __init__(self, kind, path, split, truth_path, size, skip_broken, limit):
        if not path.exists():
            raise UserError(f"no such file or folder: {path}; check the path after {kind}: in --images")
        if (kind == "folder") != path.is_dir():
            raise FlagError(
                f"{path} is {'a folder' if path.is_dir() else 'a file'}; give --images {_other(kind)}:{path}"
            )
        state = {"files": _state_of(path), "size": size, "skip_broken": skip_broken}
        if truth_path is not None:
            state["truth"] = [_sha256_if_there(truth_path), _sha256_if_there(truth_path.with_name("classes.csv"))]
        super().__init__(f"{kind}:{path.resolve().name}", split, state, limit)
        self.path, self.truth_path, self.size, self.skip_broken = path, truth_path, size, skip_broken
        self._opened = None

    @property
    def count(self):
        entries, _, _ = self._plan()
        return len(entries) if self.limit is None else min(self.limit, len(entries))

    @property
    def classes(self):
        return self._plan()[2]

    def __iter__(self):
        self.left_out.clear()
        entries, class_indices, _ = self._plan()
        yielded = 0
        for entry, class_index in zip(entries, class_indices, strict=True):
            if yielded == self.limit:
                return
            try:
                pixels = decode(self._images.read(entry), self.size)
            except BrokenImage as error:
                if not self.skip_broken:
                    raise UserError(
                        f"{self.path}: image {entry.name} {error}; get it again, or --skip-broken leaves such images"
                        " out and lists them"
                    ) from error
                self.left_out.append((entry.name, str(error)))
                continue
            yielded += 1
            yield entry.name, pixels, class_index

    def _plan(self):
        """(entries of the split, class index or None of each, classes), found once."""
        if self._opened is None:
            self._images = Images(self.path)
            entries = self._of_split(self._images.entries)
            names = list(dict.fromkeys(entry.name for entry in entries))
            if self.truth_path is not None:
                class_indices, classes = join_csv(names, self.truth_path)
            else:
                class_indices, classes = classes_of_folders(names)
            class_of = dict(zip(names, class_indices, strict=True)) if class_indices else {}
            self._opened = entries, [class_of.get(entry.name) for entry in entries], classes
        return self._opened

    def _of_split(self, entries):
        folders = sorted({entry.name.split("/")[0] for entry in entries if "/" in entry.name} & set(SPLIT_FOLDERS))
        if not folders:
            return entries
        if self.split not in folders:
            raise FlagError(f"{self.path} has no split {self.split!r}; give --split {' or '.join(folders)}")
        return [entry for entry in entries if entry.name.startswith(f"{self.split}/")]


def open_source(
    spec: str,
    split: str = "train",
    truth: pathlib.Path | None = None,
    size: int | None = None,
    skip_broken: bool = False,
    data_dir: pathlib.Path | None = None,
    limit: int | None = None,
    archives: pathlib.Path | None = None,
) -> Source:
    """The images that a spec names.

    Args:
        spec: `shapes`, `folder:DIR`, `archive:FILE` or the name of a TensorFlow dataset.
        split: `train`, `valid`, ... as the source has them; TFDS split syntax where the source is TFDS.
        truth: a csv file (file, wnid, class_index) for `folder:` and `archive:`.
        size: height and width to resample to, in pixels; None keeps those of the images.
        skip_broken: leave out images that cannot be read, and list them, rather than refuse.
        data_dir: where TFDS keeps its datasets; None for its own choice.
        limit: the first so many images; None for all.
        archives: a folder with the files that a TensorFlow dataset would download.

    Raises:
        UserError: the images are not there or not readable.
        FlagError: the spec is none, or an argument does not go with it.
    """
    kind, _, place = str(spec).partition(":")
    if truth is not None and kind not in ("folder", "archive"):
        raise FlagError(f"--truth goes with folder: and archive:, not with --images {spec}, which has its own or none")
    for name, value in (("--size", size), ("--limit", limit)):
        if value is not None and value < 1:
            raise FlagError(f"{name} is {value}; it must be at least 1")
    if kind in ("folder", "archive") and place:
        path = pathlib.Path(place).expanduser()
        return FileSource(kind, path, split, None if truth is None else pathlib.Path(truth), size, skip_broken, limit)
    if spec == "shapes":
        return ShapesSource(split, size, limit)
    raise FlagError(f"--images {spec} is not known; give shapes, folder:DIR, archive:FILE or a TFDS name like cifar10")


def _other(kind):
    return "archive" if kind == "folder" else "folder"


def _state_of(path):
    """What changes when files change: path, size and modification time of each."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.absolute()}\0{file.stat().st_size}\0{file.stat().st_mtime_ns}\n" for file in files]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _sha256_if_there(path):
    return sha256_of_file(path) if path.exists() else None
