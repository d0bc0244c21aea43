"""What the labels in a store are labels of, and how they were made."""

import dataclasses
import hashlib
import json
import math
import typing
from typing import Protocol

from labeling.labels.adaptation import Adaptation
from labeling.labels.flags import AdaptMethod

FORMAT = 1
_SHOWN = 3  # classes of a subset
_LATER_FIELDS = ("runtime", "batch_size", "subset", "subset_of", "adaptation")
NOT_ADAPTED = "none"


def _is_text(value):
    return isinstance(value, str)


def _is_count(value):
    return type(value) is int and value > 0


def _is_number_or_zero(value):
    return type(value) is int and value >= 0


def _is_list_of(fits):
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _is_teacher(value):
    kinds = {"fingerprint": str, "interpolation": str, "weight": int | float}
    return isinstance(value, dict) and all(isinstance(value[name], kinds[name]) for name in kinds.keys() & value)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_adaptation(value):
    kinds = {
        "method": lambda method: method in typing.get_args(AdaptMethod),
        "images": _is_count,
        "background": _is_list_of(_is_number),
        "log_prior": _is_list_of(_is_number),
        "found": lambda found: isinstance(found, dict) and all(map(_is_number, found.values())),
        "refused": _is_list_of(_is_text),
    }
    return value is None or (
        isinstance(value, dict) and value.keys() == kinds.keys() and all(kinds[name](value[name]) for name in kinds)
    )


# What each field must be.
_FITS = {
    **dict.fromkeys(("dataset", "images_sha256", "names_sha256", "precision", "runtime"), _is_text),
    **dict.fromkeys(("count", "shard_size", "classes", "top_k"), _is_count),
    "teachers": _is_list_of(_is_teacher),
    "class_names": _is_list_of(_is_text),
    "views": _is_list_of(_is_text),
    "subset": _is_list_of(_is_number_or_zero),
    "subset_of": _is_number_or_zero,
    "batch_size": lambda value: value is None or _is_count(value),
    "adaptation": _is_adaptation,
}


class Counting(Protocol):
    """Who counts classes: the spec of labels, a teacher, the truth of images.

    Attributes:
        classes: number of classes.
        class_names: their names, or () or None when it does not say.
        subset: the class of the whole behind each class, where these are a part of the whole; else ().
        subset_of: the number of classes of the whole; 0 without a subset.
    """

    @property
    def classes(self) -> int: ...
    @property
    def class_names(self) -> tuple[str, ...] | None: ...
    @property
    def subset(self) -> tuple[int, ...]: ...
    @property
    def subset_of(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """What the labels are labels of, and how they were made: two stores mix only when all of it is equal.

    Attributes:
        dataset: fingerprint of the ImageStore.
        images_sha256: of its images.npy; with `names_sha256` it recognizes the same images with other truth.
        names_sha256: of its names.txt.
        count: number of images, N.
        shard_size: images per shard; shard i holds the images i * shard_size .. min((i + 1) * shard_size, N) - 1.
        teachers: one dict per teacher: name, fingerprint, interpolation, weight, and what the teacher says of itself;
            with own classes, many to one, "class_map": the teacher's classes behind each.
        classes: number of classes that the teachers answer over.
        class_names: their names, or () when the teachers do not say.
        top_k: answers kept per image and view, k.
        views: one name per stored view; "a+b" is the geometric mean of the answers to views a and b.
        precision: the arithmetic of the teachers, such as "float32".
        runtime: what computed their answers, such as "tensorflow".
        batch_size: images per step, for who goes on; None in stores that do not say. Another one may help, too.
        subset: the teachers' class behind each class, where they answer over some of their classes only; else ().
        subset_of: the number of the teachers' classes; 0 without a subset.
        adaptation: what the teachers' answers were changed by before the highest were kept; None for as they are.
    """

    dataset: str
    images_sha256: str
    names_sha256: str
    count: int
    shard_size: int
    teachers: tuple[dict, ...]
    classes: int
    class_names: tuple[str, ...]
    top_k: int
    views: tuple[str, ...] = ("identity",)
    precision: str = "float32"
    runtime: str = "tensorflow"
    batch_size: int | None = None
    subset: tuple[int, ...] = ()
    subset_of: int = 0
    adaptation: Adaptation | None = None
    format: int = FORMAT

    @property
    def whole_view(self) -> int:
        """Which of the stored views answers for the whole image: identity, else a mean of views, else the first."""

        def rank(number):
            return 0 if self.views[number] == "identity" else 1 if "+" in self.views[number] else 2

        return min(range(len(self.views)), key=rank)

    @property
    def class_map(self) -> tuple[tuple[int, ...], ...]:
        """The teachers' classes behind each own class; () where they answer over their own, or their maps differ."""
        maps = {tuple(map(tuple, teacher.get("class_map", ()))) for teacher in self.teachers}
        return maps.pop() if len(maps) == 1 else ()

    @property
    def network_classes(self) -> int:
        """The number of classes of the teachers' networks, of which the labels' are a part or a union."""
        counts = [teacher.get("outputs", 0) - teacher.get("background", 0) for teacher in self.teachers]
        return counts[0] if self.class_map else self.subset_of or self.classes

    def to_json(self) -> str:
        """The content of spec.json: keys in a fixed order, so that equal specs are equal files."""
        fields = dataclasses.asdict(self)
        # As stores were written before there were these fields: their shards carry this text's hash.
        for name in _LATER_FIELDS:
            if fields[name] == getattr(type(self), name):
                del fields[name]
        return json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LabelSpec":
        """The spec that `to_json` wrote.

        Raises:
            ValueError: the text is no spec of this format.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"not a label store of format {FORMAT}")
        fields = {
            "subset": [],
            "subset_of": 0,
            "batch_size": None,
            "adaptation": None,
            "runtime": cls.runtime,
            **fields,
        }
        for name, fits in _FITS.items():
            if name not in fields:
                raise ValueError(f"it has no {name}")
            if not fits(fields[name]):
                raise ValueError(f"{name} is {str(fields[name])[:60]}")
        for name in ("teachers", "class_names", "views", "subset"):
            fields[name] = tuple(fields[name])
        try:
            if fields["adaptation"] is not None:
                fields["adaptation"] = Adaptation.from_plain(fields["adaptation"])
            spec = cls(**fields)
        except TypeError as error:
            raise ValueError(str(error)) from error
        if spec.adaptation is not None:
            spec._check_vectors(spec.adaptation)
        return spec

    def _check_vectors(self, adaptation):
        every = self.network_classes
        for name, count in {"background": every, "log_prior": every if self.class_map else self.classes}.items():
            if len(getattr(adaptation, name)) not in (0, count):
                raise ValueError(f"adaptation has {len(getattr(adaptation, name))} numbers of {name}, not {count}")

    def differences(self, other: "LabelSpec") -> list[str]:
        """One line for each thing that keeps labels of `other` from lying beside labels of this spec.

        The same images with other truth are the same images, and a teacher is known by its fingerprint, so neither
        the dataset's fingerprint alone nor the name of a teacher makes a difference.
        """
        mine, others = self._identity(), other._identity()
        return [f"{name}: {mine[name]} there, {others[name]} asked for" for name in mine if mine[name] != others[name]]

    def _identity(self):
        # class_names follow from the teachers, and the dataset's fingerprint from images, names and truth.
        rest = {"dataset", "teachers", "class_names", "subset_of", "batch_size"}
        identity = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        identity = {name: value for name, value in identity.items() if name not in rest}
        for key in ("fingerprint", "interpolation", "weight"):
            identity[f"teacher {key}"] = ", ".join(str(teacher.get(key)) for teacher in self.teachers)
        shown = {"subset": self._subset_in_short(), "class map": self._map_in_short()}
        return identity | shown | {"adaptation": self._adaptation_in_short()}

    def _subset_in_short(self):
        """The subset by its first classes and its hash, for people."""
        if not self.subset:
            return "all classes"
        first = ", ".join(map(str, self.subset[:_SHOWN]))
        return f"{len(self.subset):,} of {self.subset_of:,} classes ({first}, ...: {_digits_of(self.subset)})"

    def _map_in_short(self):
        """The own classes by their first names and a hash of all and of what they are made of, for people."""
        maps = [teacher.get("class_map") for teacher in self.teachers]
        if not any(maps):
            return "none"
        first = ", ".join(self.class_names[:_SHOWN])
        return f"{self.classes:,} own classes ({first}, ...: {_digits_of((maps, self.class_names))})"

    def _adaptation_in_short(self):
        """The adaptation by its method and a hash of its vectors, for people."""
        if self.adaptation is None:
            return NOT_ADAPTED
        return f"{self.adaptation.method} ({_digits_of((self.adaptation.background, self.adaptation.log_prior))})"


def _digits_of(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def count_alike(one: Counting, other: Counting) -> bool:
    """Whether a class has the same index for both, as far as they say."""
    if one.class_names and set(one.class_names) == set(other.class_names or ()):
        return tuple(one.class_names) == tuple(other.class_names or ())
    return (one.classes, one.subset, one.subset_of) == (other.classes, other.subset, other.subset_of)
