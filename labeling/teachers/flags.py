"""Which teachers answer, and what they cannot tell of themselves."""

import dataclasses
from typing import Literal, TypeVar

from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, flag, required

InputRange = Literal["0..1", "0..255", "tf", "caffe", "torch"]
ValueT = TypeVar("ValueT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherFlags(Flags):
    """The teachers. Their flags are given once for all of them, or once for each, in the order of --teacher."""

    teacher: tuple[str, ...] = required(
        "bundled, a SavedModel directory, a TF-Hub URL, hub:NAME (mobilenet_v2, inception_v3, ...; a wrong NAME lists "
        "all), kaggle:OWNER/MODEL/..., keras:NAME, preset:NAME_OR_DIR of Keras Hub, or a .keras, .h5 or .onnx file; "
        "may be repeated",
        metavar="SPEC",
    )
    weight: tuple[float, ...] = flag((), "weight of the teacher among several (default: 1)", metavar="W")
    teacher_range: tuple[Literal["auto", InputRange], ...] = flag(
        (),
        "the numbers that the teacher is fed: 0..1, 0..255, or as Keras Applications say tf (-1..1), caffe (BGR minus "
        "means), torch (normalized) (default: auto, what its weights, layers or conventions tell)",
    )
    teacher_size: tuple[str, ...] = flag(
        (),
        "pixels a side, for a teacher that takes any, or is to be asked at another size than its own; several with "
        "commas, such as 224,160, are asked together and share its weight",
        metavar="PIXELS",
    )
    teacher_classes: tuple[int, ...] = flag(
        (), "number of classes; one less than the teacher answers means that its first is the background", metavar="N"
    )
    classes: str | None = flag(
        None,
        "the only classes that images may have, by name, WordNet id or index: a text file with one per line, or a list "
        "with commas, or: folders, for those that the images' folders are called like; the answers are renormalized "
        "over them (default: all that the teacher knows)",
        metavar="FILE",
    )
    class_map: str | None = flag(
        None,
        "csv of own classes (own_class,teacher_class), each as probable as its classes of the teacher together; a row "
        "with * in the place of the teacher's class takes all others, without one the answers are renormalized",
        metavar="FILE",
    )
    trust_teacher: bool = flag(
        False,
        "load teachers whose files may run code, or read and write files, when they are loaded or asked: layers with "
        "code of their own, and operations that do more than compute (default: such files are refused)",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.classes is not None and self.class_map is not None:
            raise FlagError("--classes and --class-map both say which classes there are; leave one of them out")
        if any(weight <= 0 for weight in self.weight):
            raise FlagError(f"--weight {min(self.weight)} must be above 0; leave the teacher out instead")
        self.sizes_for_each()

    def for_each(self, values: tuple[ValueT, ...], default: ValueT) -> tuple[ValueT, ...]:
        """The values of a flag that is given once, or once for each teacher, or not at all: one for each teacher."""
        return (values or (default,)) * (1 if len(values) > 1 else len(self.teacher))

    def sizes_for_each(self) -> tuple[tuple[int | None, ...], ...]:
        """The sizes that each teacher is asked at, in pixels; None for its own.

        Raises:
            FlagError: a size is no whole number above 0, or is given twice.
        """
        return self.for_each(tuple(map(_parse_sizes, self.teacher_size)), (None,))


def _parse_sizes(text):
    """The numbers of "224,160"."""
    parts = [part.strip() for part in str(text).split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise FlagError(f"--teacher-size {text} is no size in pixels; give a whole number, or several with commas")
    sizes = tuple(map(int, parts))
    if len(set(sizes)) < len(sizes):
        raise FlagError(f"--teacher-size {text} gives a size twice; give each once")
    return sizes
