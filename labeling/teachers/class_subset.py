"""A subset of a teacher's classes: for images that come from fewer classes than the teacher knows."""

import dataclasses
import pathlib
from collections.abc import Sequence

from labeling.teachers.class_names import class_of_number, find_class, find_classes, is_number, names_of_classes
from labeling.teachers.teacher import Teacher
from tfpipeline.system import FlagError, UserError

COMMENT = "#"
FOLDERS = "folders"  # The classes are those that the images name.


def restrict(teacher: Teacher, classes: str, image_classes: Sequence[tuple[str, str]] = ()) -> Teacher:
    """The teacher, answering only over the classes that are listed, in the list's order: p is renormalized.

    Args:
        teacher: the teacher.
        classes: "folders", for the classes of the images; or a text file in UTF-8, one class per line; or the lines
            themselves with commas between. Empty lines and lines that begin with "#" do not count. When all are
            numbers they are indices of the teacher's classes, from 0; else each is the name of a class, whole or up to
            its first comma, or its WordNet id.
        image_classes: (WordNet id or name, name) of each class of the images, as `names_of_classes` takes them.

    Raises:
        UserError: the file is not there or no text, lists fewer than two classes, one twice, or one that the teacher
            does not have or that the line does not tell; the message names the line.
        FlagError: "folders" of images that lie in none.
    """
    names = names_of_classes(teacher, image_classes)
    if classes == FOLDERS:
        entries = _entries_of_images(image_classes, names)
    else:
        entries = _read(classes)
    if classes != FOLDERS and all(is_number(text) for _, text in entries):
        indices = [class_of_number(text, teacher, where) for where, text in entries]
        called = teacher.class_names and tuple(teacher.class_names[index] for index in indices)
    else:
        indices = [find_class(text, names, teacher, where) for where, text in entries]
        called = tuple(names[index][0] for index in indices)
    _check_once(entries, indices)
    note = f"{teacher.note}, restricted to {len(indices):,} of them"
    return dataclasses.replace(teacher, class_names=called, subset=tuple(indices), note=note)


def has_classes_of(teacher: Teacher, image_classes: Sequence[tuple[str, str]]) -> bool:
    """Whether the classes of images are some of a teacher's, each another one: "folders" would restrict it to them."""
    names = names_of_classes(teacher)
    found = [find_classes(text, names) for _, text in _entries_of_images(image_classes, names)] if image_classes else []
    indices = {each[0] for each in found if len(each) == 1}
    return 1 < len(found) == len(indices) < teacher.classes


def _entries_of_images(image_classes, names):
    """[(where, name)] of the classes of images, each by the one of its two names that the teacher knows."""
    if not image_classes:
        raise FlagError("--classes folders: the images lie in no class folders; list the classes in a file")
    return [
        (f"--classes folders, class {name}", wnid if find_classes(wnid, names) else name)
        for wnid, name in image_classes
    ]


def _read(classes):
    """[(where, text)] of the lines that count."""
    place = f"--classes {classes}"
    if "," in classes and not pathlib.Path(classes).exists():
        lines, unit = classes.split(","), "entry"
    else:
        unit = "line"
        try:
            lines = pathlib.Path(classes).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise UserError(f"{place} cannot be read ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{place} is no text in UTF-8 ({error}); save it as UTF-8") from error
    stripped = [(f"{place}, {unit} {number}", line.strip()) for number, line in enumerate(lines, 1)]
    entries = [(where, text) for where, text in stripped if text and not text.startswith(COMMENT)]
    if len(entries) < 2:
        only = f" ({entries[0][0].removeprefix(f'{place}, ')}: {entries[0][1]})" if entries else ""
        raise UserError(f"{place} lists {len(entries)} classes{only}; list at least two, one per line")
    return entries


def _check_once(entries, indices):
    seen: dict[int, str] = {}
    for (where, text), index in zip(entries, indices, strict=True):
        if index in seen:
            raise UserError(
                f"{where}: {text} is the class of {seen[index].rpartition(', ')[2]} again; remove one of them"
            )
        seen[index] = where
