"""Classes of a teacher by what people call them: by name, by WordNet id, and where nothing names them by index."""

import difflib
from collections.abc import Sequence

from labeling.labels import quality
from labeling.teachers.teacher import Teacher
from tfpipeline.images import find_imagenet_class, imagenet_name, short_name
from tfpipeline.system import UserError

_CLOSEST = 3  # names to offer for an unknown one

# What each class may be called, its own name or its WordNet id first.
Names = list[tuple[str, ...]]


def names_of_classes(teacher: Teacher, image_classes: Sequence[tuple[str, str]] = ()) -> Names:
    """What each class of a teacher may be called; [] when nothing tells.

    Args:
        teacher: the teacher.
        image_classes: (WordNet id or name, name) of each class of the images: where they are as many as the teacher's,
            they name the classes of a teacher that does not name them itself.
    """
    if teacher.class_names:
        return [(name,) for name in teacher.class_names]
    if len(image_classes) == teacher.classes:
        return [(*names, imagenet_name(names[0])) for names in image_classes]
    return [(wnid, imagenet_name(wnid)) for wnid in quality.imagenet_ids(teacher)]


def find_classes(text: str, names: Names) -> list[int]:
    """The indices of the classes that a text may mean: by whole name, else by the name up to its first comma, else by
    any name of ImageNet's classes, however it is spelled.

    Args:
        text: what the person wrote.
        names: of `names_of_classes`.
    """
    found = [index for index, each in enumerate(names) if text in each]
    found = found or [index for index, each in enumerate(names) if text in map(short_name, each)]
    if not found and (wnid := find_imagenet_class(text)):
        found = [index for index, each in enumerate(names) if wnid == each[0]]
    return found


def find_class(text: str, names: Names, teacher: Teacher, where: str) -> int:
    """The index of the one class that a text means.

    Args:
        text: what the person wrote.
        names: of `names_of_classes`.
        teacher: whose classes they are.
        where: the text stands, for the message.

    Raises:
        UserError: there is no such class, or the text does not tell which.
    """
    if not names:
        raise UserError(
            f"{where}: {text}: teacher {teacher.spec} does not name its {teacher.classes:,} classes; list them by "
            "index, from 0, or give it a classes.txt"
        )
    found = find_classes(text, names)
    if len(found) > 1:
        raise UserError(
            f"{where}: {text} names the classes {' and '.join(map(str, found))} of teacher {teacher.spec}; list them "
            f"by {'WordNet id' if len(names[0]) > 1 else 'their whole names'}"
        )
    if not found:
        every = [name for each in names for name in (*each, *map(short_name, each))]
        close = difflib.get_close_matches(text, every, _CLOSEST)
        rather = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else f"; its first is {names[0][-1]}"
        raise UserError(f"{where}: teacher {teacher.spec} has no class {text}{rather}")
    return found[0]


def class_of_number(text: str, teacher: Teacher, where: str) -> int:
    """The index that a text is, from 0.

    Raises:
        UserError: the teacher has no such class.
    """
    if int(text) >= teacher.classes:
        raise UserError(
            f"{where}: teacher {teacher.spec} has no class {text}; its classes are 0 to {teacher.classes - 1}"
        )
    return int(text)


def is_number(text: str) -> bool:
    """Whether a text can be an index."""
    return text.isascii() and text.isdigit()
