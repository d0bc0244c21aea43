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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from tfpipeline.system import FlagError

TRAINING = "train"
_WORDS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val"),
    "test": ("test", "testing"),
    "dev": ("dev",),
    "eval": ("eval", "evaluation"),
    "trainval": ("trainval",),
}  # what splits are called, by what they are
_WORDS_BESIDE = {"unlabeled": ("unlabeled", "unlabelled"), "extra": ("extra",)}  # these only where others are
_MEANING = {word: meaning for meaning, words in (_WORDS | _WORDS_BESIDE).items() for word in words}
_HELD_OUT = ("valid", "dev", "eval", "test")  # the first that is there
_NAME = re.compile(f"({'|'.join(_MEANING)})(set|data|images?)?")


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
class Slice:
    """The images first..last-1 of a split."""

    split: str
    first: int
    last: int

    @property
    def images(self) -> int:
        """How many they are."""
        return self.last - self.first


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

    def slices(self, spec: str) -> list[Slice]:
        """The images that `--split SPEC` asks for, in this order; every slice holds some, and none lies in two.

        Raises:
            FlagError: a split is not there, the spec is no such syntax, or asks for no image or for one twice.
        """
        if not re.search(r"[\[+]", spec):
            names = list(self._splits) if spec == "all" else [self.name_of(spec)]
            return [Slice(name, 0, self._splits[name].num_examples) for name in names]
        from tensorflow_datasets.core import splits  # Here, because it takes most of a second.

        try:
            instructions = splits.ReadInstruction.from_spec(spec).to_absolute(self)
        except (ValueError, NotImplementedError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise FlagError(
                f"{self._source} has no split {spec!r} ({reason}); give --split like train[:90%], train[100:200] or"
                " train+valid"
            ) from error
        slices = [self._slice(part) for part in instructions]
        slices = [each for each in slices if each.images > 0]
        if not slices:
            raise FlagError(f"--split {spec} holds no image of {self._source}; give a wider slice")
        self._check_disjoint(spec, slices)
        return slices

    def _slice(self, part):
        name = self.name_of(part.splitname)
        last = self._splits[name].num_examples if part.to is None else part.to
        return Slice(name, part.from_ or 0, last)

    def _check_disjoint(self, spec, slices):
        ordered = sorted(slices, key=lambda each: (each.split, each.first))
        for before, after in itertools.pairwise(ordered):
            if before.split == after.split and after.first < before.last:
                raise FlagError(
                    f"--split {spec} asks twice for image {after.first:,} of split {after.split}; give slices that do"
                    " not overlap"
                )


def is_split_name(folder: str) -> bool:
    """Whether a folder of this name holds a split, such as train, Test or validation."""
    match = _NAME.fullmatch(folder.lower())
    return match is not None and _MEANING[match[1]] in _WORDS


def word_of(name: str) -> str | None:
    """The word in a name that splits are called by, as val in val2017; None where there is none, or more than one."""
    words = _words_in(name)
    return words[0] if len(words) == 1 else None


def are_splits(folders: Collection[str]) -> bool:
    """Whether folders are splits by words in their names, each another one, as train2017 and val2017."""
    return len(folders) > 1 and len(meanings_of(folders)) == len(folders)


def meanings_of(folders: Collection[str]) -> set[str]:
    """Which splits the words in the names of folders stand for."""
    return {_MEANING[word] for folder in folders if (word := word_of(folder))}


def _words_in(name):
    found = (_NAME.fullmatch(part) for part in re.split("[^a-z]+", name.lower()))
    return [match[1] for match in found if match]


def held_out_split(names: Sequence[str]) -> str | None:
    """The split to measure on among those of a source, by their names; None where there is but one to train on."""
    by_meaning = {_MEANING.get(word_of(name) or ""): name for name in reversed(names)}
    return next((by_meaning[meaning] for meaning in _HELD_OUT if meaning in by_meaning), None)


def spellings_of(names: Sequence[str]) -> dict[str, str]:
    """Shorter spellings of splits, where these are no other split: in small letters, and the word in a longer name."""
    shorter = {word: name for name in reversed(names) if (word := word_of(name))}
    spellings = shorter | {name.lower(): name for name in reversed(names)}
    return {word: name for word, name in spellings.items() if word not in names}


def one_split(source: str, names: Sequence[str], count: Callable[[], int]) -> Splits:
    """The splits of a source that has no folders or files for several: all its images are `train`.

    Where its own name says that they are another one, as `valid_64x64.tar` or `imagenet-val/` do, that word and those
    that mean the same (valid, validation and val) stand for all its images as well.

    Args:
        source: how messages call it.
        names: what it is called: the name of the archive or folder, and of the folders that all its images share.
        count: () -> the number of its images.
    """
    said = [word for name in names for word in _words_in(name) if _MEANING[word] in _WORDS]
    words = {word for one in said for word in _WORDS[_MEANING[one]]}
    stated = f", or {said[0]} as its name says" if said and said[0] != TRAINING else ""
    return Splits(
        source,
        {TRAINING: WholeSplit(count)},
        dict.fromkeys(words, TRAINING),
        f"which are all its images{stated}: nothing in it tells several splits apart; put them into folders train and"
        " valid, give a slice such as train[90%:], or --hold-out 10%",
    )
