"""A subset of a teacher's classes, listed in a file: for images that come from fewer classes than the teacher knows."""

import dataclasses
import difflib
import pathlib
from collections.abc import Sequence

from labeling.labels import quality
from labeling.teachers.teacher import Teacher
from tfpipeline.images import short_name
from tfpipeline.system import UserError

COMMENT = "#"
_CLOSEST = 3  # names to offer for an unknown one


def restrict(teacher: Teacher, path: str, image_class_names: Sequence[tuple[str, str]] = ()) -> Teacher:
    """The teacher, answering only over the classes that a file lists, in the file's order: p is renormalized.

    Args:
        teacher: the teacher.
        path: a text file in UTF-8, one class per line. Empty lines and lines that begin with "#" do not count. When all
            lines are numbers they are indices of the teacher's classes, from 0; else each is the name of a class, whole
            or up to its first comma, or its WordNet id.
        image_class_names: (WordNet id or name, name) of each class of the images: where they are as many as
            the teacher's, they name the classes of a teacher that does not name them itself.

    Raises:
        UserError: the file is not there or no text, lists fewer than two classes, one twice, or one that the teacher
            does not have or that the line does not tell; the message names the line.
    """
    entries = _read(path)
    if all(text.isascii() and text.isdigit() for _, text in entries):
        numbers = [(line, text, _index_of_number(path, line, text, teacher)) for line, text in entries]
        names = teacher.class_names and tuple(teacher.class_names[index] for _, _, index in numbers)
    else:
        known = _names_of_classes(teacher, image_class_names)
        numbers = [(line, text, _index_of_name(path, line, text, teacher, known)) for line, text in entries]
        names = tuple(known[index][0] for _, _, index in numbers)
    _check_once(path, numbers)
    indices = tuple(index for _, _, index in numbers)
    note = f"{teacher.note}, restricted to {len(indices):,} of them"
    return dataclasses.replace(teacher, class_names=names, subset=indices, note=note)


def _read(path):
    """[(line number, text)] of the lines that count."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"--classes {path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--classes {path} is no text in UTF-8 ({error}); save it as UTF-8") from error
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, text) for number, text in stripped if text and not text.startswith(COMMENT)]
    if len(entries) < 2:
        only = f" (line {entries[0][0]}: {entries[0][1]})" if entries else ""
        raise UserError(f"--classes {path} lists {len(entries)} classes{only}; list at least two, one per line")
    return entries


def _names_of_classes(teacher, image_class_names):
    """What each class of the teacher may be called, its own name or its WordNet id first; () when nothing tells."""
    if teacher.class_names:
        return [(name,) for name in teacher.class_names]
    if len(image_class_names) == teacher.classes:
        return list(image_class_names)
    return [(wnid,) for wnid in quality.imagenet_ids(teacher)]


def _index_of_number(path, line, text, teacher):
    if int(text) >= teacher.classes:
        raise UserError(
            f"--classes {path}, line {line}: teacher {teacher.spec} has no class {text}; its classes are 0 to "
            f"{teacher.classes - 1}"
        )
    return int(text)


def _index_of_name(path, line, text, teacher, known):
    """The index of the class that a line names."""
    if not known:
        raise UserError(
            f"--classes {path}, line {line}: {text}: teacher {teacher.spec} does not name its {teacher.classes:,} "
            "classes; list them by index, from 0, or give it a classes.txt"
        )
    exact = [index for index, names in enumerate(known) if text in names]
    found = exact or [index for index, names in enumerate(known) if text in map(short_name, names)]
    if len(found) > 1:
        raise UserError(
            f"--classes {path}, line {line}: {text} names the classes {' and '.join(map(str, found))} of teacher "
            f"{teacher.spec}; list them by {'WordNet id' if len(known[0]) > 1 else 'their whole names'}"
        )
    if not found:
        every = [name for names in known for name in (*names, *map(short_name, names))]
        close = difflib.get_close_matches(text, every, _CLOSEST)
        rather = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else f"; its first is {known[0][-1]}"
        raise UserError(f"--classes {path}, line {line}: teacher {teacher.spec} has no class {text}{rather}")
    return found[0]


def _check_once(path, numbers):
    seen: dict[int, int] = {}
    for line, text, index in numbers:
        if index in seen:
            raise UserError(
                f"--classes {path}, line {line}: {text} is the class of line {seen[index]} again; remove one of them"
            )
        seen[index] = line
