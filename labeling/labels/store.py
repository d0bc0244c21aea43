"""LabelStore: the teacher's answers on disk, in immutable shards that carry their own hash."""

import dataclasses
import hashlib
import io
import pathlib
import re
import zipfile

import numpy as np

from labeling.labels.spec import LabelSpec
from tfpipeline.system import UserError, remove_leftovers, write_file

SPEC_FILE = "spec.json"
SHARD_NAME = re.compile(r"labels-(\d{8,})-(\d{8,})-([0-9a-f]{16})\.npz")
_HASH_DIGITS = 16
# Rounding to float16 moves the mass of an answer by at most 2^-11 times its entropy in nats, of at most 11.
MASS_TOLERANCE = 6e-3


@dataclasses.dataclass(frozen=True)
class Labels:
    """The answers to n consecutive images.

    Attributes:
        top_k: the k most probable classes, most probable first, uint16 (n, views, k).
        log_probs: their log-probabilities at temperature 1, float16 (n, views, k).
        log_tail: log of the probability outside the top k, float16 (n, views); -inf where nothing is outside.
    """

    top_k: np.ndarray
    log_probs: np.ndarray
    log_tail: np.ndarray

    def __len__(self):
        return len(self.top_k)


class LabelStore:
    """A directory with spec.json and the shards `labels-{first}-{last}-{hash}.npz`.

    There is no index: what is done is the set of shards that verify, so that killed and simultaneous writers do no
    harm. A shard's name carries the first digits of the sha256 of its bytes, and its bytes repeat its range and the
    hash of spec.json, so a shard that was renamed or comes from another store does not verify.
    """

    def __init__(self, directory: pathlib.Path, spec: LabelSpec):
        self.directory, self.spec = pathlib.Path(directory), spec
        self._spec_hash = np.frombuffer(hashlib.sha256(spec.to_json().encode()).digest(), np.uint8)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The whole grid: (first, last) of each shard, `last` exclusive."""
        count, size = self.spec.count, self.spec.shard_size
        return [(first, min(first + size, count)) for first in range(0, count, size)]

    def shards(self) -> tuple[dict[tuple[int, int], pathlib.Path], dict[pathlib.Path, str]]:
        """(range -> verified shard, damaged file -> what is wrong with it), having read every shard."""
        verified, damaged = {}, {}
        for path in sorted(self.directory.glob("labels-*.npz")):
            try:
                reached, _ = self._read(path)
            except ValueError as error:
                damaged[path] = str(error)
            else:
                verified.setdefault(reached, path)  # Two workers may both have done a range: the first name counts.
        return verified, damaged

    def missing_ranges(self) -> list[tuple[int, int]]:
        """The ranges of the grid without a verified shard, in order."""
        verified, _ = self.shards()
        return [reached for reached in self.ranges if reached not in verified]

    def is_done(self, reached: tuple[int, int]) -> bool:
        """Whether the range (first, last) has a verified shard."""
        return any(self.problem_of(path) is None for path in self.directory.glob(_shard_name(*reached, "*")))

    def problem_of(self, path: pathlib.Path) -> str | None:
        """What is wrong with a shard, or None."""
        try:
            self._read(path)
        except ValueError as error:
            return str(error)
        return None

    def write_shard(self, first: int, last: int, labels: Labels) -> pathlib.Path:
        """Writes the answers to the images first..last-1, durably and all at once.

        Args:
            first: index of the first image, a multiple of the shard size.
            last: one past the last.
            labels: the answers, as `Labels` says.

        Returns:
            The shard's path. The same labels give the same bytes and so the same name.
        """
        problem = self._problem((first, last), labels)
        if problem:
            raise ValueError(problem)
        content = io.BytesIO()
        np.savez(
            content,
            range=np.array([first, last], np.int64),
            spec=self._spec_hash,
            **{field.name: getattr(labels, field.name) for field in dataclasses.fields(Labels)},
        )
        digits = hashlib.sha256(content.getvalue()).hexdigest()[:_HASH_DIGITS]
        path = self.directory / _shard_name(first, last, digits)
        write_file(path, content.getvalue())
        return path

    def read(self, path: pathlib.Path) -> Labels:
        """The labels of one shard.

        Raises:
            ValueError: the shard is damaged; the message says how.
        """
        return self._read(path)[1]

    def read_all(self) -> Labels:
        """The labels of all images, 0..count-1.

        Raises:
            UserError: a range has no verified shard; the damaged files are named.
        """
        labels = {}
        damaged = []
        for path in sorted(self.directory.glob("labels-*.npz")):
            try:
                reached, shard = self._read(path)
            except ValueError as error:
                damaged.append(f"{path.name} {error}")
            else:
                labels.setdefault(reached, shard)
        missing = [reached for reached in self.ranges if reached not in labels]
        if missing:
            images = sum(last - first for first, last in missing)
            broken = f"; damaged: {'; '.join(damaged)}" if damaged else ""
            raise UserError(
                f"labels {self.directory}: {images:,} of {self.spec.count:,} images have no labels (first: "
                f"{missing[0][0]:,}){broken}; run the same jobs.label_imagenet64 command again to complete them"
            )
        parts = [labels[reached] for reached in self.ranges]
        names = [field.name for field in dataclasses.fields(Labels)]
        return Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def check_joins(self, image_store) -> str:
        """Checks that these are labels of the images in `image_store`.

        Args:
            image_store: a tfpipeline.images.store.ImageStore.

        Returns:
            "", or a note to say aloud: the images are the same ones but their split or truth is another.

        Raises:
            UserError: the labels belong to other images; the message names the difference.
        """
        if image_store.fingerprint == self.spec.dataset:
            return ""
        files = image_store.description["files"]
        for file, expected in (("images.npy", self.spec.images_sha256), ("names.txt", self.spec.names_sha256)):
            if files[file] != expected:
                raise UserError(
                    f"labels {self.directory} belong to other images: {len(image_store):,} images with {file} "
                    f"{files[file][:12]} given, {self.spec.count:,} with {expected[:12]} labeled; give the --images, "
                    "--split and --limit that were labeled, or label these images"
                )
        return f"labels {self.directory} are of the very same images, opened under another split or with other truth"

    def _read(self, path):
        """((first, last), Labels) of a shard; ValueError says what is wrong with it."""
        match = SHARD_NAME.fullmatch(path.name)
        if not match:
            raise ValueError("has no shard's name")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:_HASH_DIGITS] != match[3]:
            raise ValueError("does not have the content that its name says")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                reached = tuple(arrays["range"].tolist())
                spec_hash = arrays["spec"]
                labels = Labels(*(arrays[field.name] for field in dataclasses.fields(Labels)))
        except (KeyError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"is no shard of labels ({error})") from error
        if reached != (int(match[1]), int(match[2])):
            raise ValueError(f"holds the images {reached[0]} to {reached[1]}, not those that its name says")
        if not np.array_equal(spec_hash, self._spec_hash):
            raise ValueError(f"belongs to a store with another {SPEC_FILE}")
        problem = self._problem(reached, labels)
        if problem:
            raise ValueError(problem)
        return reached, labels

    def _problem(self, reached, labels):
        """What is wrong with the labels of a range, or None."""
        spec, n = self.spec, reached[1] - reached[0]
        if reached not in self.ranges:
            return f"is not a range of the grid of {spec.count} images in shards of {spec.shard_size}"
        shape = (n, len(spec.views), spec.top_k)
        for name, expected, dtype in (
            ("top_k", shape, np.uint16),
            ("log_probs", shape, np.float16),
            ("log_tail", shape[:2], np.float16),
        ):
            array = getattr(labels, name)
            if array.shape != expected or array.dtype != dtype:
                return f"{name} is {array.dtype}{array.shape}, not {np.dtype(dtype)}{expected}"
        if labels.top_k.max() >= spec.classes:
            return f"has class {labels.top_k.max()}; there are {spec.classes}"
        return _inconsistency(labels)


def open_labels(directory: pathlib.Path) -> LabelStore:
    """The LabelStore in `directory`.

    Raises:
        UserError: there is no spec.json, or it is damaged.
    """
    path = pathlib.Path(directory) / SPEC_FILE
    if not path.is_file():
        raise UserError(f"{directory} is no label store: it has no {SPEC_FILE}; make one with jobs.label_imagenet64")
    try:
        spec = LabelSpec.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); label again into a new directory") from error
    return LabelStore(path.parent, spec)


def check_mixes(directory: pathlib.Path, spec: LabelSpec) -> None:
    """Checks that labels of `spec` may be written into `directory`, without touching it.

    Raises:
        UserError: it is a label store of another spec; the message names the fields that differ. Or it is a directory
            with other things in it.
    """
    directory = pathlib.Path(directory)
    if (directory / SPEC_FILE).exists():
        differences = open_labels(directory).spec.differences(spec)
        if differences:
            raise UserError(
                f"{directory} holds labels made otherwise ({'; '.join(differences)}); "
                "repeat the flags that made it, or choose another --out"
            )
    elif directory.exists() and (not directory.is_dir() or _strangers(directory)):
        raise UserError(f"{directory} exists and is no label store; choose another --out")


def create_labels(directory: pathlib.Path, spec: LabelSpec) -> LabelStore:
    """The LabelStore in `directory`, made when it is not there yet.

    Raises:
        UserError: as `check_mixes`.
    """
    check_mixes(directory, spec)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    if not (directory / SPEC_FILE).exists():
        write_file(directory / SPEC_FILE, spec.to_json().encode())
    return open_labels(directory)


def _inconsistency(labels):
    """Why the labels are no probabilities, or None."""
    log_probs = labels.log_probs.astype(np.float32)
    if np.isnan(log_probs).any() or np.isnan(labels.log_tail).any():
        return "has log-probabilities that are no numbers"
    if (np.diff(log_probs) > 0).any():
        return "has answers that are not in the order of their probability"
    if (np.diff(np.sort(labels.top_k)) == 0).any():
        return "has a class twice among the answers to one image"
    mass = np.exp(log_probs).sum(-1) + np.exp(labels.log_tail.astype(np.float32))
    worst = mass.flat[np.abs(mass - 1).argmax()]
    return None if abs(worst - 1) < MASS_TOLERANCE else f"has probabilities that sum to {worst:.4f}"


def _shard_name(first, last, digits):
    return f"labels-{first:08d}-{last:08d}-{digits}.npz"


def _strangers(directory):
    """Whether a directory without spec.json holds anything but the leftover of a killed write of spec.json."""
    return any(not path.name.startswith(f".{SPEC_FILE}.") for path in directory.iterdir())
