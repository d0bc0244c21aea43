"""Own classes made of a teacher's, many to one: an own class is as probable as its classes of the teacher together.

A map is a csv file with a row for each class of the teacher that counts:

    own_class,teacher_class
    dog,beagle
    dog,n02099601
    cat,281
    neither,*

Empty rows and those that begin with "#" do not count. The second column is a name, a WordNet id or an index from 0. The
star stands for all classes that no other row names; without it these do not count, and the answers are renormalized
over the others.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

from labeling.teachers.class_names import class_of_number, find_class, find_classes, is_number, names_of_classes
from labeling.teachers.class_subset import COMMENT
from labeling.teachers.teacher import Teacher
from tfpipeline.system import UserError

HEADER, REST = ["own_class", "teacher_class"], "*"


def map_classes(teacher: Teacher, path: str, image_classes: Sequence[tuple[str, str]] = ()) -> Teacher:
    """The teacher, answering over the own classes of a map, in the order of their first rows.

    Args:
        teacher: the teacher.
        path: the csv file.
        image_classes: (WordNet id or name, name) of each class of the images, as `names_of_classes` takes them.

    Raises:
        UserError: the file is not there or no such csv, has fewer than two own classes, or names a class of the teacher
            twice or one that it does not have; the message names the line.
    """
    names = names_of_classes(teacher, image_classes)
    members: dict[str, list[int]] = {}
    line_of: dict[int, int] = {}
    rest = None
    for line, own, text in _read(path):
        where = f"--class-map {path}, line {line}"
        members.setdefault(own, [])
        if text == REST:
            if rest is not None:
                raise UserError(f"{where}: {REST} stands for the rest of the classes once; remove one of the rows")
            rest = own
            continue
        index = _class_of(text, names, teacher, where)
        if index in line_of:
            raise UserError(f"{where}: {text} is the class of line {line_of[index]} again; remove one of them")
        line_of[index] = line
        members[own].append(index)
    if rest is not None:
        members[rest] += [index for index in range(teacher.classes) if index not in line_of]
    empty = [own for own, indices in members.items() if not indices]
    if empty or len(members) < 2:
        problem = f"leaves no class of the teacher to {empty[0]}" if empty else f"has {len(members)} own classes"
        raise UserError(f"--class-map {path} {problem}; give two or more, each with a class of the teacher")
    groups = tuple(tuple(indices) for indices in members.values())
    unused = teacher.classes - sum(map(len, groups))
    left = f"; {unused:,} others do not count" if unused else ""
    note = f"{teacher.note}, mapped to {len(groups):,} own classes by {path}{left}"
    return dataclasses.replace(teacher, class_names=tuple(members), class_map=groups, note=note)


def _class_of(text, names, teacher, where):
    if is_number(text) and not (names and find_classes(text, names)):
        return class_of_number(text, teacher, where)
    return find_class(text, names, teacher, where)


def _read(path):
    """[(line, own class, class of the teacher)] of the rows."""
    try:
        with open(pathlib.Path(path), newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise UserError(f"--class-map {path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--class-map {path} is no csv in UTF-8 ({error}); save it as such") from error
    rows = [(line, row) for line, row in rows if any(row) and not row[0].startswith(COMMENT)]
    if rows and rows[0][1] == HEADER:
        rows = rows[1:]
    for line, row in rows:
        if len(row) != 2 or not all(row):
            raise UserError(
                f"--class-map {path}, line {line}: {','.join(row)} is not an own class and a class of the teacher; "
                "write two columns, a name with commas in quotes"
            )
    return [(line, *row) for line, row in rows]
