"""ImageStore: all images of a source in one memory-mapped array on disk, written once and verified when opened.

A store is a directory: images.npy uint8 (N, H, W, 3), truth.npy int32 (N,) with -1 for unknown, names.txt, classes.csv
and store.json, which names the source and the sha256 of every file. It is written in a sibling directory that is
renamed when whole, so there is a whole store or none.

Beside these, which say what the images are, stand two that follow from them and are no part of the fingerprint:
digests.npy uint64 (N,), the first 64 bits of the sha256 of each image, and notes.txt, what the source had to say.
store.sha256 holds the hashes of both and of store.json. Stores that were written before have none of the three.
verified.json says when images.npy was verified last, and which file it was then.
"""

import array
import contextlib
import csv
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import typing
from collections.abc import Iterator

import numpy as np

from tfpipeline.images import sources
from tfpipeline.images.file_names import escape_name
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.mapped import VERIFIED, MappedImages, damage_of
from tfpipeline.images.places import expand
from tfpipeline.images.rows import Rows
from tfpipeline.images.source import Source
from tfpipeline.system import (
    SILENT,
    Console,
    StopRequest,
    UserError,
    open_locked,
    publish_directory,
    remove_old_scratch,
    scratch_directory,
    sha256_of_file,
)

FORMAT = 1
IMAGES = "images.npy"
_FILES = (IMAGES, "truth.npy", "names.txt", "classes.csv")
DESCRIPTION, _DIGESTS, _NOTES, _SEAL = "store.json", "digests.npy", "notes.txt", "store.sha256"
STORE_FILES = (VERIFIED, *_FILES, _DIGESTS, _NOTES, DESCRIPTION, _SEAL)  # What tells that it is a store comes last.
_NAMED = 5  # of the images left out, on the console
_PIECE = 4096  # images whose digests are computed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore:
    """The images of a source, in the source's order, or some of them.

    Attributes:
        directory: where it is.
        images: uint8 (N, H, W, 3), where they lie on disk; of a selection, `rows.Rows` of these.
        truth: int32 (N,), the class of each image, -1 where it is not known.
        names: the name of each image.
        classes: (WordNet id or name, name to show) of each class; empty where unknown.
        description: store.json, of the whole store.
        fingerprint: sha256 of store.json in hexadecimal: it stands for the whole store, or the selection from it.
        notes: what there is to say of the source, one line each.
        rows: int64 (N,), where the images of a selection stand in the whole store; None for all of them.
    """

    directory: pathlib.Path
    images: MappedImages | Rows
    truth: np.ndarray
    names: list[str]
    classes: list[tuple[str, str]]
    description: dict[str, typing.Any]
    fingerprint: str
    notes: tuple[str, ...] = ()
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_truth(self) -> bool:
        """Whether the class of every image is known."""
        return bool((self.truth >= 0).all())

    @property
    def counts(self) -> dict[str, int]:
        """What became of the images that the source was asked for: "found", and of these "skipped"."""
        skipped = len(self.description["skipped"])
        return {"found": self.description["count"] + skipped, "skipped": skipped}

    @functools.cached_property
    def digests(self) -> np.ndarray:
        """The first 64 bits of the sha256 of each image's pixels, uint64 (N,)."""
        path = self.directory / _DIGESTS
        if (self.directory / _SEAL).exists() and path.exists():
            whole = np.load(path)
            return whole if self.rows is None else whole[self.rows]
        pieces = (self.images[first : first + _PIECE] for first in range(0, len(self), _PIECE))
        return np.array([_digest(pixels) for piece in pieces for pixels in piece], np.uint64)


def _digest(pixels):
    return int.from_bytes(hashlib.sha256(pixels).digest()[:8])


def default_cache() -> pathlib.Path:
    """$TFPIPELINE_CACHE, or ~/.cache/tfpipeline.

    Raises:
        UserError: nobody knows the home directory, as of a user without a name.
    """
    if place := os.environ.get("TFPIPELINE_CACHE"):
        return pathlib.Path(place)
    try:
        return pathlib.Path.home() / ".cache" / "tfpipeline"
    except RuntimeError as error:
        raise UserError(f"no home directory to cache in ({error}); give --cache DIR or set TFPIPELINE_CACHE") from error


def open_images(images: ImageFlags | str, console: Console = SILENT, **others: typing.Any) -> ImageStore:
    """The store of the images that are named: from the cache where nothing of them changed, else built.

    Args:
        images: the flags of a command, or a spec alone, as `sources.open_source` takes them; the cache is
            `default_cache()` where they name none.
        console: where progress goes.
        **others: of a spec, the further flags of `ImageFlags`.

    Raises:
        UserError: the images are not there or not readable.
    """
    flags = images if isinstance(images, ImageFlags) else ImageFlags(images=images, **others)
    source = sources.open_source(flags)
    for note in source.notes:
        console.say(note)
    key = hashlib.sha256(json.dumps([FORMAT, source.depends_on], sort_keys=True).encode()).hexdigest()
    readable = re.sub(r"[^\w.-]+", "-", f"{source.spec}-{source.split}", flags=re.ASCII)[:80]
    cache = default_cache() if flags.cache is None else expand(flags.cache)
    directory = cache / f"{readable}-{key[:16]}"
    remove_old_scratch(cache)  # Also of a process that was killed when its store was there already.
    store = _open_cached(source, directory, console) if directory.exists() else build_store(source, directory, console)
    with contextlib.suppress(OSError):  # In a cache that others may only read.
        os.utime(directory)  # By which `cache.list_stores` knows when it was opened last.
    for note in store.notes:
        console.say(note)
    return store


def _open_cached(source, directory, console):
    """The store that was built before, or one that is built anew where that is damaged."""
    with contextlib.suppress(UserError):
        return open_store(directory)
    with lock_store(directory):  # Of several that find the damage, one repairs it, and the others take that.
        try:
            return open_store(directory)
        except UserError as error:
            console.say(f"{error}; it is a cached copy and is built anew")
            remove_store(directory)
            return build_store(source, directory, console)


@contextlib.contextmanager
def lock_store(directory: pathlib.Path) -> Iterator[None]:
    """A context in which no other process repairs or removes the store in this directory of a cache."""
    lock = directory.with_name(f".{directory.name}.lock")
    with open_locked(lock, for_all=True):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove_store(directory: pathlib.Path) -> None:
    """Removes the files of a store, and nothing else.

    Raises:
        UserError: there is something else in its directory.
    """
    for name in STORE_FILES:
        (directory / name).unlink(missing_ok=True)
    strangers = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    if strangers:
        raise UserError(f"{directory} holds {strangers[0]}, which is no file of an image store; move it elsewhere")
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()


def build_store(source: Source, directory: pathlib.Path, console: Console = SILENT) -> ImageStore:
    """Writes the images of a source into a new store. Memory stays flat however many they are.

    Args:
        source: the images.
        directory: the store to be; its parents are made.
        console: where progress goes.

    Raises:
        UserError: the source cannot be read, has no images, or images of different sizes; or `directory` holds another
            store already. Nothing is left behind.
        Stopped: SIGTERM or SIGINT came. Nothing is left behind.
    """
    directory = pathlib.Path(directory)
    with scratch_directory(directory.parent, directory.name) as partial:
        _write(source, partial, console)
        try:
            publish_directory(partial, directory)
        except OSError:
            if not directory.exists():
                raise
            return _same_store(directory, partial)
    return open_store(directory)


def _same_store(directory, partial):
    """The store that another process finished first, if it is the same one."""
    store = open_store(directory)
    if store.fingerprint != sha256_of_file(partial / DESCRIPTION):
        raise UserError(f"{directory} holds another image store; give another directory or remove it")
    return store


def _write(source, partial, console):
    """Writes all files of the store, store.json last."""
    truth, digests, shape = array.array("i"), array.array("Q"), None
    said_before = len(source.notes)
    with (
        StopRequest() as stop,
        open(partial / IMAGES, "wb") as images,
        open(partial / "names.txt", "w", encoding="utf-8", newline="\n") as names,
        console.bar("reading", source.count, "image") as advance,
    ):
        for name, pixels, class_index in source:
            stop.raise_if_requested("nothing is left of the unfinished image store")
            if shape is None:
                shape = pixels.shape
                _write_header(images, (0, *shape))
            if pixels.shape != shape:
                raise UserError(_different_sizes(source, name, pixels.shape, shape))
            images.write(pixels)
            names.write(name + "\n")
            truth.append(-1 if class_index is None else class_index)
            digests.append(_digest(pixels))
            advance(1)
        if shape is None:
            raise UserError(f"{source.spec}, split {source.split}: no image is left; see what was left out, or --limit")
        images.seek(0)
        _write_header(images, (len(truth), *shape))
    np.save(partial / "truth.npy", np.frombuffer(truth, np.int32))
    _write_classes(partial / "classes.csv", source.classes)
    description = {
        "format": FORMAT,
        "source": source.spec,
        "split": source.split,
        "version": source.version,
        "count": len(truth),
        "shape": list(shape),
        "duplicates": len(digests) - len(np.unique(np.frombuffer(digests, np.uint64))),
        "skipped": source.skipped,
        "files": {name: sha256_of_file(partial / name) for name in _FILES},
    }
    (partial / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    np.save(partial / _DIGESTS, np.frombuffer(digests, np.uint64))
    notes = "".join(f"{escape_name(note)}\n" for note in source.notes[said_before:])
    (partial / _NOTES).write_text(notes, encoding="utf-8")
    _write_seal(partial)
    _tell(source, description, console)


def _write_seal(directory):
    """The hashes of what store.json does not vouch for, as sha256sum writes and checks them."""
    lines = [f"{sha256_of_file(directory / name)}  {name}\n" for name in (DESCRIPTION, _DIGESTS, _NOTES)]
    (directory / _SEAL).write_text("".join(lines), encoding="utf-8")


def _write_header(file, shape):
    """The head of a .npy file; NumPy leaves room in it for the first dimension to grow, so its length stays."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _write_classes(path, classes):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("class_index", "wnid", "name"))
        writer.writerows((i, wnid, name) for i, (wnid, name) in enumerate(classes))


def _different_sizes(source, name, shape, first_shape):
    (height, width), (first_height, first_width) = shape[:2], first_shape[:2]
    return (
        f"{source.spec}: image {name} has {width} x {height} pixels, those before it {first_width} x {first_height};"
        f" --size {min(first_width, first_height)} resamples all to one size"
    )


def _tell(source, description, console):
    if left_out := source.left_out:
        console.say(f"{len(left_out):,} broken images are left out (all are listed in {DESCRIPTION}):")
        for name, reason in left_out[:_NAMED]:
            console.say(f"  {name} {reason}")
    if duplicates := description["duplicates"]:
        console.say(f"duplicates: {duplicates:,} of {description['count']:,} images have the pixels of an earlier one")


def open_store(directory: pathlib.Path) -> ImageStore:
    """The store in a directory, every file verified against its sha256.

    Raises:
        UserError: there is no store, or a file of it is missing or damaged.
    """
    directory = pathlib.Path(directory)
    try:
        content = (directory / DESCRIPTION).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no image store in {directory}: {DESCRIPTION} is missing") from None
    description = _verify(directory, content)
    try:
        images = MappedImages(directory / IMAGES, description["files"][IMAGES])
        truth = np.load(directory / "truth.npy")
        names = (directory / "names.txt").read_text(encoding="utf-8").splitlines()
        with open(directory / "classes.csv", newline="", encoding="utf-8") as file:
            classes = [(row["wnid"], row["name"]) for row in csv.DictReader(file)]
        notes = (directory / _NOTES).read_text(encoding="utf-8").splitlines() if (directory / _NOTES).exists() else []
    except (ValueError, KeyError, EOFError, csv.Error) as error:  # Right by the hashes, and yet no such files.
        raise UserError(f"{directory} is no image store ({error}); remove it and build it anew") from error
    count = description["count"]
    if list(images.shape) != [count, *description["shape"]]:
        raise UserError(damage_of(directory / IMAGES))
    if not (truth.dtype == np.int32 and truth.shape == (count,) and len(names) == count):
        raise UserError(damage_of(directory / "truth.npy"))
    fingerprint = hashlib.sha256(content).hexdigest()
    return ImageStore(directory, images, truth, names, classes, description, fingerprint, tuple(notes))


def map_images(directory: pathlib.Path, sha256: str) -> MappedImages:
    """The images alone of a store that was verified before, without reading them: for one worker among many.

    Args:
        directory: of the store.
        sha256: of the images.npy that was verified, in hexadecimal.

    Returns:
        uint8 (N, H, W, 3), where they lie on disk.

    Raises:
        UserError: there is no such store, or it holds other images.
    """
    directory = pathlib.Path(directory)
    try:
        description = json.loads((directory / DESCRIPTION).read_bytes())
        if description["files"][IMAGES] == sha256:
            return MappedImages(directory / IMAGES, sha256, verified=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the image store {directory} cannot be opened here ({error})") from error
    raise UserError(f"the image store {directory} holds other images here than where the command was started")


def _verify(directory, content):
    """store.json as a dict, after all files agree with it."""
    try:
        description = json.loads(content)
        if description["format"] != FORMAT:
            raise UserError(
                f"{directory} has format {description['format']}, this program reads {FORMAT}; build it anew"
            )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(damage_of(directory / DESCRIPTION)) from None
    for name, digest in _sealed_hashes(directory):
        _check_file(directory / name, digest)
    if not is_description(description):
        raise UserError(damage_of(directory / DESCRIPTION))
    for name in _FILES:
        if name != IMAGES:  # Which is verified as it is opened.
            _check_file(directory / name, description["files"][name])
    return description


def is_sealed(directory: pathlib.Path) -> bool:
    """Whether a directory has the file that only a store has, store.sha256."""
    try:
        return bool(_sealed_hashes(directory))
    except (OSError, UserError):
        return False


def _sealed_hashes(directory):
    """(name, sha256) of each file in store.sha256, which old stores do not have."""
    path = directory / _SEAL
    if not path.exists():
        return []
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    hashes = [line.partition("  ")[::2] for line in lines]
    if [name for _, name in hashes] != [DESCRIPTION, _DIGESTS, _NOTES]:
        raise UserError(damage_of(path))
    return [(name, digest) for digest, name in hashes]


def is_description(description: typing.Any) -> bool:
    """Whether what is read from store.json says all that it must, in the right types."""
    kinds = {"count": int, "shape": list, "source": str, "split": str, "version": str, "skipped": list, "files": dict}
    return (
        isinstance(description, dict)
        and all(isinstance(description.get(key), kind) for key, kind in kinds.items())
        and all(isinstance(length, int) for length in description["shape"])
        and all(isinstance(description["files"].get(name), str) for name in _FILES)
    )


def _check_file(path, digest):
    if not path.is_file() or sha256_of_file(path) != digest:
        raise UserError(damage_of(path))
