"""The splits of a source, and slices of them, in the syntax of TensorFlow Datasets for every source.

    train            all images of a split
    train[:90%]      its first 90 %, rounded as TFDS does
    train[100:200]   its images 100 to 199
    train+valid      the images of one split, then those of the other
    all              those of every split

A slice is one of positions in the source's order.
"""

import dataclasses
import itertools
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

from tfpipeline.system import FlagError

TRAINING = "train"
_SYNONYMS = (("valid", "validation", "val"), ("train", "training"), ("test", "testing"))
_OTHERS = ("dev", "eval")
_NAMES = (*(name for group in _SYNONYMS for name in group), *_OTHERS)
_HELD_OUT = ("valid", "validation", "val", "dev", "eval", "test", "testing")  # the first that is there


class Split(typing.Protocol):
    """What TFDS asks of a split to slice it."""

    @property
    def num_examples(self) -> int:
        """Its number of images."""

    @property
    def shard_lengths(self) -> list[int]:
        """Their number in each of its files."""


@dataclasses.dataclass(frozen=True)
class WholeSplit:
    """A split that is one shard, its images counted when they must be."""

    count: Callable[[], int]

    @property
    def num_examples(self) -> int:
        """Its number of images."""
        return self.count()

    @property
    def shard_lengths(self) -> list[int]:
        """That number alone."""
        return [self.count()]


@dataclasses.dataclass(frozen=True)
class Span:
    """The images first..last-1 of a split."""

    split: str
    first: int
    last: int


class Splits(Mapping[str, Split]):
    """The splits of a source by name, and by other words for the same.

    Args:
        source: how messages call it.
        splits: by name.
        words: other word -> name.
        ways_out: what else to do where a split is not there, for the message.
    """

    def __init__(
        self,
        source: str,
        splits: Mapping[str, Split],
        words: Mapping[str, str] | None = None,
        ways_out: str = "or a slice such as train[90%:]",
    ):
        self._source, self._splits, self._words, self._ways_out = source, splits, words or {}, ways_out

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __getitem__(self, word: str) -> Split:
        return self._splits[self.name_of(word)]

    def name_of(self, word: str) -> str:
        """The name of the split that `word` stands for.

        Raises:
            FlagError: there is none.
        """
        if word in self._splits:
            return word
        if word not in self._words:
            known = " or ".join(self._splits)
            raise FlagError(f"{self._source} has no split {word!r}; give --split {known}, {self._ways_out}")
        return self._words[word]

    def spans(self, spec: str) -> list[Span]:
        """The images that `--split SPEC` asks for, in this order; every span holds some, and none lies in two.

        Raises:
            FlagError: a split is not there, the spec is no such syntax, or asks for no image or for one twice.
        """
        if not re.search(r"[\[+]", spec):
            names = list(self._splits) if spec == "all" else [self.name_of(spec)]
            return [Span(name, 0, self._splits[name].num_examples) for name in names]
        from tensorflow_datasets.core import splits  # Here, because it takes most of a second.

        try:
            instructions = splits.ReadInstruction.from_spec(spec).to_absolute(self)
        except (ValueError, NotImplementedError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise FlagError(
                f"{self._source} has no split {spec!r} ({reason}); give --split like train[:90%], train[100:200] or"
                " train+valid"
            ) from error
        spans = [self._span(part) for part in instructions]
        spans = [span for span in spans if span.first < span.last]
        if not spans:
            raise FlagError(f"--split {spec} holds no image of {self._source}; give a wider slice")
        self._check_disjoint(spec, spans)
        return spans

    def _span(self, part):
        name = self.name_of(part.splitname)
        last = self._splits[name].num_examples if part.to is None else part.to
        return Span(name, part.from_ or 0, last)

    def _check_disjoint(self, spec, spans):
        ordered = sorted(spans, key=lambda span: (span.split, span.first))
        for before, after in itertools.pairwise(ordered):
            if before.split == after.split and after.first < before.last:
                raise FlagError(
                    f"--split {spec} asks twice for image {after.first:,} of split {after.split}; give slices that do"
                    " not overlap"
                )


def is_split_name(folder: str) -> bool:
    """Whether a folder of this name holds a split, such as train, Test or validation."""
    return folder.lower() in _NAMES


def held_out_split(names: Sequence[str]) -> str | None:
    """The split to measure on among those of a source, by their names; None where there is but one to train on."""
    by_word = {name.lower(): name for name in reversed(names)}
    return next((by_word[word] for word in _HELD_OUT if word in by_word), None)


def spellings_of(names: Sequence[str]) -> dict[str, str]:
    """Other spellings of splits, in small letters, where these are no other split."""
    return {name.lower(): name for name in reversed(names) if name.lower() not in names}


def one_split(source: str, names: Sequence[str], count: Callable[[], int]) -> Splits:
    """The splits of a source that has no folders or files for several: all its images are `train`.

    Where its own name says that they are another one, as `valid_64x64.tar` or `imagenet-val/` do, that word and those
    that mean the same (valid, validation and val) stand for all its images as well.

    Args:
        source: how messages call it.
        names: what it is called: the name of the archive or folder, and of the folders that all its images share.
        count: () -> the number of its images.
    """
    said = [word for name in names for word in re.split("[^a-z]+", name.lower()) if word in _NAMES]
    words = {word for word in said for group in (*_SYNONYMS, (word,)) if word in group for word in group}
    stated = f", or {said[0]} as its name says" if said and said[0] != TRAINING else ""
    return Splits(
        source,
        {TRAINING: WholeSplit(count)},
        dict.fromkeys(words, TRAINING),
        f"which are all its images{stated}: nothing in it tells several splits apart; put them into folders train and"
        " valid, give a slice such as train[90%:], or --hold-out 10%",
    )
