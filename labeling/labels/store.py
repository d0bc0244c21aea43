"""LabelStore: the teacher's answers on disk, in immutable shards that carry their own hash."""

import hashlib
import io
import pathlib
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from labeling.labels.claims import SAMPLE, remove_old_claims
from labeling.labels.origin import FLAGS_FILE
from labeling.labels.span import Span, images_in
from labeling.labels.spec import LabelSpec
from tfpipeline.batches import Answers, concatenate
from tfpipeline.images import ImageStore
from tfpipeline.system import UserError, remove_leftovers, write_file

if TYPE_CHECKING:
    import tensorflow as tf

SPEC_FILE = "spec.json"
SHARD_NAME = re.compile(r"labels-(\d{8,})-(\d{8,})-([0-9a-f]{16})\.npz")
_HASH_DIGITS = 16
# Rounding to float16 moves the mass of an answer by at most 2^-11 times its entropy in nats, of at most 11.
MASS_TOLERANCE = 6e-3
# Classes that uint16 counts; more are stored in twice the bytes.
_MOST_IN_UINT16 = 2**16

Kept = TypeVar("Kept")


def types_of(classes: int) -> dict[str, type[np.generic]]:
    """name of an array of a shard -> its type, for answers over that many classes."""
    top_k = np.uint16 if classes <= _MOST_IN_UINT16 else np.uint32
    return {"top_k": top_k, "log_probs": np.float16, "log_tail": np.float16}


def as_stored(answers: Answers, classes: int) -> Answers:
    """The answers in the types that shards have.

    Args:
        answers: of any integer and floating types.
        classes: number of classes that they are over.
    """
    types = types_of(classes)
    return Answers(**{name: array.astype(types[name]) for name, array in answers.arrays().items()})


class LabelStore:
    """A directory with spec.json and the shards `labels-{first}-{last}-{hash}.npz`.

    There is no index: what is done is the set of shards that verify, so that killed and simultaneous writers do no
    harm. A shard's name carries the first digits of the sha256 of its bytes, and its bytes repeat its range and the
    hash of spec.json, so a shard that was renamed or comes from another store does not verify.
    """

    def __init__(self, directory: pathlib.Path, spec: LabelSpec):
        self.directory, self.spec = directory, spec
        self._spec_hash = np.frombuffer(hashlib.sha256(spec.to_json().encode()).digest(), np.uint8)

    @property
    def spans(self) -> list[Span]:
        """The whole grid: the images of each shard, in order."""
        return [self._span_from(first) for first in self._firsts]

    def shards(self) -> tuple[dict[Span, pathlib.Path], dict[pathlib.Path, str]]:
        """(span -> verified shard, damaged file -> what is wrong with it), having read every shard."""
        return self._read_each(lambda path, _: path)

    def missing_spans(self) -> list[Span]:
        """The spans of the grid without a verified shard, in order."""
        verified, _ = self.shards()
        return [span for span in self.spans if span not in verified]

    def is_done(self, span: Span) -> bool:
        """Whether the span has a verified shard."""
        return any(self.problem_of(path) is None for path in self.directory.glob(_shard_name(span, "*")))

    def problem_of(self, path: pathlib.Path) -> str | None:
        """What is wrong with a shard, or None."""
        try:
            self._read(path)
        except ValueError as error:
            return str(error)
        return None

    def dataset(self, images: ImageStore, batch_size: int, augment: str = "none", seed: int = 0) -> "tf.data.Dataset":
        """The labeled images as batches for Keras's `model.fit`, without an end: give it `steps_per_epoch`.

        Args:
            images: those that were labeled, or a selection of them.
            batch_size: B.
            augment: changes to the images, as `--augment` of jobs.train.
            seed: of the order and the changes.

        Returns:
            A dataset of pairs: uint8 (B, H, W, 3), and the teacher's probabilities float32 (B, K), the mass outside the
            stored answers spread evenly over the other classes.

        Raises:
            UserError: the labels are of other images, or not whole.
            FlagError: there is no such change.
        """
        from labeling.labels import keras_batches  # Nothing else of a label store needs TensorFlow.

        self.check_same_images(images)
        answers = self.read_all()
        answers = (answers if images.rows is None else answers[images.rows]).view(self.spec.whole_view).for_loss()
        return keras_batches.build_batches(images.images, answers, self.spec.classes, batch_size, augment, seed)

    def write_shard(self, span: Span, answers: Answers) -> pathlib.Path:
        """Writes the answers to the images of a span, durably and all at once.

        Args:
            span: one of the grid.
            answers: leading axes (n, views), as `stored` gives them.

        Returns:
            The shard's path. The same answers give the same bytes and so the same name.

        Raises:
            ValueError: the span is none of the grid, or the answers are none to its images.
        """
        problem = self._problem(span, answers)
        if problem:
            raise ValueError(problem)
        content = io.BytesIO()
        arrays: dict[str, Any] = {"range": np.array(span, np.int64), "spec": self._spec_hash, **answers.arrays()}
        np.savez(content, **arrays)
        digits = hashlib.sha256(content.getvalue()).hexdigest()[:_HASH_DIGITS]
        path = self.directory / _shard_name(span, digits)
        write_file(path, content.getvalue())
        return path

    def read(self, path: pathlib.Path) -> Answers:
        """The answers in one shard, leading axes (n, views).

        Raises:
            ValueError: the shard is damaged; the message says how.
        """
        return self._read(path)[1]

    def read_all(self) -> Answers:
        """The answers to all images, leading axes (N, views).

        Raises:
            UserError: as `whole_shards`.
        """
        answers, damaged = self._read_each(lambda _, answers: answers)
        self._check_whole(answers, damaged)
        return concatenate([answers[span] for span in self.spans])

    def whole_shards(self) -> dict[Span, pathlib.Path]:
        """The shards of all images, in order.

        Raises:
            UserError: a span has no verified shard; the damaged files are named.
        """
        verified, damaged = self.shards()
        self._check_whole(verified, damaged)
        return {span: verified[span] for span in self.spans}

    @property
    def _firsts(self):
        return range(0, self.spec.count, self.spec.shard_size)

    def _span_from(self, first):
        return Span(first, min(first + self.spec.shard_size, self.spec.count))

    def _check_whole(self, verified: Collection[Span], damaged):
        missing = [span for span in self.spans if span not in verified]
        if missing:
            named = "; ".join(f"{path.name} {problem}" for path, problem in damaged.items())
            raise UserError(
                f"labels {self.directory}: {images_in(missing):,} of {self.spec.count:,} images have no labels (first: "
                f"{missing[0].first:,}){f'; damaged: {named}' if named else ''}; run the same jobs.label_imagenet64 "
                "command again to complete them"
            )

    def check_same_images(self, image_store: ImageStore) -> str:
        """Checks that these are labels of the images in `image_store`.

        Args:
            image_store: the images.

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

    def _read_each(
        self, keep: Callable[[pathlib.Path, Answers], Kept]
    ) -> tuple[dict[Span, Kept], dict[pathlib.Path, str]]:
        """(span -> what is kept of its shard, damaged file -> what is wrong with it)."""
        kept: dict[Span, Kept] = {}
        damaged = {}
        for path in sorted(self.directory.glob("labels-*.npz")):
            try:
                span, answers = self._read(path)
            except ValueError as error:
                damaged[path] = str(error)
            else:
                kept.setdefault(span, keep(path, answers))  # Two workers may both have done it: the first name counts.
        return kept, damaged

    def _read(self, path) -> tuple[Span, Answers]:
        """(span, answers) of a shard; ValueError says what is wrong with it."""
        match = SHARD_NAME.fullmatch(path.name)
        if not match:
            raise ValueError("has no shard's name")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest()[:_HASH_DIGITS] != match[3]:
            raise ValueError("does not have the content that its name says")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                span = Span(*arrays["range"].tolist())
                spec_hash = arrays["spec"]
                answers = Answers(**{name: arrays[name] for name in types_of(self.spec.classes)})
        except Exception as error:  # Under a hash that fits, hostile bytes make NumPy and zipfile raise anything.
            raise ValueError(f"is no shard of labels ({error})") from error
        if span != (int(match[1]), int(match[2])):
            raise ValueError(f"holds the images {span.first} to {span.last}, not those that its name says")
        if not np.array_equal(spec_hash, self._spec_hash):
            raise ValueError(f"belongs to a store with another {SPEC_FILE}")
        problem = self._problem(span, answers)
        if problem:
            raise ValueError(problem)
        return span, answers

    def _problem(self, span, answers):
        """What is wrong with the answers to the images of a span, or None."""
        spec = self.spec
        if span.first not in self._firsts or span != self._span_from(span.first):
            return f"is not a range of the grid of {spec.count} images in shards of {spec.shard_size}"
        types = types_of(spec.classes)
        for name, array in answers.arrays().items():
            expected, dtype = (span.images, len(spec.views), spec.top_k)[: 2 if name == "log_tail" else 3], types[name]
            if array.shape != expected or array.dtype != dtype:
                return f"{name} is {array.dtype}{array.shape}, not {np.dtype(dtype)}{expected}"
        if answers.top_k.max() >= spec.classes:
            return f"has class {answers.top_k.max()}; there are {spec.classes}"
        return _inconsistency(answers)


def open_labels(directory: str | pathlib.Path) -> LabelStore:
    """The LabelStore in `directory`.

    Raises:
        UserError: there is no spec.json, or it is damaged.
    """
    path = pathlib.Path(directory) / SPEC_FILE
    if not path.is_file():
        raise UserError(f"{directory} is no label store: it has no {SPEC_FILE}; make one with jobs.label_imagenet64")
    try:
        return LabelStore(path.parent, LabelSpec.from_json(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); label again into a new directory") from error


def check_may_write(directory: str | pathlib.Path, spec: LabelSpec) -> None:
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


def create_labels(directory: str | pathlib.Path, spec: LabelSpec) -> LabelStore:
    """The LabelStore in `directory`, made when it is not there yet.

    Raises:
        UserError: as `check_may_write`.
    """
    check_may_write(directory, spec)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    own = "|".join(map(re.escape, (SPEC_FILE, FLAGS_FILE)))
    remove_leftovers(directory, rf"(labels|{SAMPLE})-.*\.npz|{own}|beam|workers")
    remove_old_claims(directory)
    if not (directory / SPEC_FILE).exists():
        write_file(directory / SPEC_FILE, spec.to_json().encode())
    return open_labels(directory)


def _inconsistency(answers):
    """Why the answers are no distributions, or None."""
    log_probs = answers.log_probs.astype(np.float32)
    if np.isnan(log_probs).any() or np.isnan(answers.log_tail).any():
        return "has log-probabilities that are no numbers"
    if (np.diff(log_probs) > 0).any():
        return "has answers that are not in the order of their probability"
    if (np.diff(np.sort(answers.top_k)) == 0).any():
        return "has a class twice among the answers to one image"
    mass = np.exp(log_probs).sum(-1) + np.exp(answers.log_tail.astype(np.float32))
    worst = mass.flat[np.abs(mass - 1).argmax()]
    return None if abs(worst - 1) < MASS_TOLERANCE else f"has probabilities that sum to {worst:.4f}"


def _shard_name(span, digits):
    return f"labels-{span.first:08d}-{span.last:08d}-{digits}.npz"


def _strangers(directory):
    """Whether a directory without spec.json holds anything but what comes before it, and leftovers of that."""
    before = re.compile(rf"\.({re.escape(SPEC_FILE)}|{SAMPLE}-.*)\..*|\.{SAMPLE}\..*|{SAMPLE}-.*\.npz")
    return any(not before.fullmatch(path.name) for path in directory.iterdir())
