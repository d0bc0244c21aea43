"""Tars in the layout of WebDataset as a source: files of one sample share what stands before their first dot.

`KEY.jpg`, or another image, is the picture; `KEY.cls` holds its class, else `label`, `cls` or `class` in `KEY.json`, as
a number or a name. Lines of a `classnames.txt` or `classes.txt` beside the tars name the classes by their numbers.
"""

import contextlib
import functools
import itertools
import json
import pathlib
import typing
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfpipeline.images.archives import Images
from tfpipeline.images.decoding import decode
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.listing import Entry
from tfpipeline.images.places import state_of
from tfpipeline.images.shards import Label, Shard, ShardSource, local_shards
from tfpipeline.system import UserError

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NAMES_OF_CLASSES = ("classnames.txt", "classes.txt")
_NUMBER, _RECORD = ".cls", ".json"  # files that hold the class, the first one before the other
_KEYS = ("label", "cls", "class")


class WebDatasetSource(ShardSource):
    """The samples of the tars of a split that have an image, sorted by key in each tar.

    Args:
        path: a tar, or a folder of tars.
        flags: which of the images.

    Raises:
        UserError: there are no tars.
    """

    def __init__(self, path: pathlib.Path, flags: ImageFlags):
        shards = local_shards("webdataset", path, _SUFFIXES)
        folder = path if path.is_dir() else path.parent
        self._names_file = next((folder / name for name in _NAMES_OF_CLASSES if (folder / name).is_file()), None)
        state = {
            "files": state_of(path),
            "names": self._names_file and state_of(self._names_file),
        }
        super().__init__(f"webdataset:{path.resolve().name}", str(path), shards, flags, state)

    def stated_names(self) -> Sequence[str] | None:
        if self._names_file is None:
            return None
        try:
            return self._names_file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{self._names_file} is no text in UTF-8 ({error}); save it as UTF-8") from error

    def labels_of(self, shard: Shard) -> Sequence[Label]:
        path = shard.fetch()
        with contextlib.closing(_open(path)) as images:
            samples = list(_samples(images))
            if without := sum(sample.image is None for sample in samples):
                self.notes.append(f"{self.spec}: {without:,} samples of {path.name} have no image and are left out")
            return [_label(path, images, sample) for sample in samples if sample.image]

    def images_of(self, shard: Shard, first: int, last: int) -> Iterator[Callable[[], np.ndarray]]:
        images = _open(shard.fetch())
        entries = (sample.image for sample in _samples(images) if sample.image)
        for entry in itertools.islice(entries, first, last):
            yield functools.partial(self._read, images, entry)

    def _read(self, images, entry):
        return decode(images.read(entry), self.flags.size)


class _Sample(typing.NamedTuple):
    """The files of a sample: its image, and the one that holds its class; None for those that are not there."""

    image: Entry | None
    label: Entry | None


def _open(path):
    return Images(path, beside=(_NUMBER, _RECORD))


def _samples(images) -> Iterator[_Sample]:
    # Names with one beginning up to a dot follow each other, because they are sorted.
    for _, entries in itertools.groupby(images.entries, key=lambda entry: _parts_of(entry.name)[0]):
        by_ending = {f".{_parts_of(entry.name)[1]}": entry for entry in entries}
        label = by_ending.pop(_NUMBER, None)
        record = by_ending.pop(_RECORD, None)
        pictures = {ending: entry for ending, entry in by_ending.items() if not ending.endswith((_NUMBER, _RECORD))}
        # Of several, such as KEY.jpg and KEY.mask.png, that with the plainest ending.
        image = min(pictures, key=lambda ending: (ending.count("."), ending), default=None)
        yield _Sample(None if image is None else pictures[image], label or record)


def _parts_of(name):
    """(key, ending) of a file in a tar."""
    folder, slash, base = name.rpartition("/")
    key, _, ending = base.partition(".")
    return f"{folder}{slash}{key}", ending.lower()


def _label(path, images, sample) -> Label:
    if sample.label is None:
        return None
    try:
        content = images.read(sample.label).decode("utf-8").strip()
        if not sample.label.name.endswith(_RECORD):
            return int(content) if content.removeprefix("-").isdecimal() else content
        record = json.loads(content)
        label = next((record[key] for key in _KEYS if key in record), None) if isinstance(record, dict) else None
        return label if isinstance(label, (int, str)) and not isinstance(label, bool) else None
    except Exception as error:  # What damage makes the readers raise is anything.
        raise UserError(
            f"{path}: {sample.label.name} holds no class ({' '.join(str(error).split())[:200]}); get the file again"
        ) from error
