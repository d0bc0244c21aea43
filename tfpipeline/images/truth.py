"""What the images really show, for sources that do not say it themselves: a csv file, or the names of folders.

Names that differ only in how accents are composed are one name, for they look alike and come from one folder that two
systems wrote.
"""

import collections
import csv
import pathlib
from collections.abc import Iterator

from tfpipeline.images.file_names import compose_name, escape_name
from tfpipeline.system import UserError, unescape_formula

Classes = tuple[tuple[str, str], ...]  # (WordNet id or name, name to show) of each class

# Classes up to this number may lack rows, as where a csv tells of a few images of ImageNet; of more, each has a row.
MOST_CLASSES_WITHOUT_ROWS = 1 << 16
_BACKSLASH = escape_name("\\")  # between folders, where the csv was written by Windows


def join_csv(names: list[str], path: pathlib.Path) -> tuple[list[int], Classes]:
    """The class of each image by a csv file with the columns file, wnid, class_index.

    A row belongs to the image whose whole name, or whose name without its folders, is the row's `file`. Without a
    `classes.csv` the rows name the classes; those of which no row tells a wnid are named by their numbers.

    Args:
        names: the images' names.
        path: the csv file; a `classes.csv` (class_index, wnid, name) beside it names the classes.

    Returns:
        (class index of each image, the classes).

    Raises:
        UserError: rows and images do not match one to one, or a row contradicts itself or the classes.
    """
    table = _read_table(path)
    exact, by_name = set(names), collections.defaultdict(list)
    by_base = collections.defaultdict(list)
    for name in names:
        by_name[compose_name(name)].append(name)
        by_base[compose_name(name.rsplit("/", 1)[-1])].append(name)
    found: dict[str, int] = {}
    without_image = []
    for file, (_, class_index) in table.items():
        form = compose_name(file)
        spellings = (form, form.replace(_BACKSLASH, "/"), unescape_formula(form))
        alike = next((found for name in spellings for found in (by_name.get(name), by_base.get(name)) if found), [])
        matches = [file] if file in exact else alike
        if len(matches) > 1:
            raise UserError(
                f"{path}: {file} fits {len(matches)} images ({matches[0]}, {matches[1]}, ...); write the folder into"
                " the column file"
            )
        if not matches:
            without_image.append(file)
        for name in matches:
            if name in found:
                raise UserError(f"{path}: two rows belong to the image {name}; remove one")
            found[name] = class_index
    without_row = [name for name in names if name not in found]
    for what, offenders in (("rows without an image", without_image), ("images without a row", without_row)):
        if offenders:
            raise UserError(
                f"{path} does not match the images: {len(offenders):,} {what}, the first {offenders[0]}"
                f" ({len(table):,} rows, {len(names):,} images); give the --truth of these images"
            )
    return [found[name] for name in names], _read_classes(path, table)


def _read_table(path: pathlib.Path) -> dict[str, tuple[str, int]]:
    """file -> (wnid, class_index)"""
    table: dict[str, tuple[str, int]] = {}
    for line, row in _rows(path, ("file", "wnid", "class_index")):
        file = escape_name(row["file"])
        if file in table:
            raise UserError(f"{path}, line {line}: a second row for {file}; remove one")
        index = _class_index(path, line, row)
        table[file] = (row["wnid"] or str(index), index)
    return table


def _read_classes(path: pathlib.Path, table: dict[str, tuple[str, int]]) -> Classes:
    listed = path.with_name("classes.csv")
    if listed.exists():
        classes: dict[int, tuple[str, str]] = {}
        for line, row in _rows(listed, ("class_index", "wnid", "name")):
            index = _class_index(listed, line, row)
            if index in classes:
                raise UserError(f"{listed}, line {line}: a second row for class {index}; remove one")
            classes[index] = (row["wnid"] or str(index), row["name"])
        if sorted(classes) != list(range(len(classes))):
            raise UserError(f"{listed}: class_index must run from 0 to {len(classes) - 1} without gaps")
        pairs = tuple(classes[i] for i in range(len(classes)))
    else:
        pairs = _classes_of_rows(path, table)
    _check_names_differ(listed if listed.exists() else path, pairs)
    for file, (wnid, index) in table.items():
        if index >= len(pairs) or pairs[index][0] != wnid:
            other = escape_name(pairs[index][0]) if index < len(pairs) else "no class"
            raise UserError(
                f"{path}: {file} has wnid {escape_name(wnid)} and class_index {index}, but class {index} is {other}"
                f" {f'in {listed}' if listed.exists() else 'elsewhere in the file'}"
            )
    return pairs


def _classes_of_rows(path, table):
    known = {index: wnid for wnid, index in table.values()}
    count = max(known, default=-1) + 1
    if count > max(len(known), MOST_CLASSES_WITHOUT_ROWS):
        raise UserError(
            f"{path}: class_index goes up to {count - 1:,}, but only {len(known):,} classes have a row; count the"
            " classes from 0 on, or name them all in a classes.csv beside it"
        )
    return tuple((known.get(i, str(i)), known.get(i, str(i))) for i in range(count))


def _check_names_differ(path, pairs):
    """Classes are known by their first name: a second one of the same name would be mistaken for it."""
    numbers = {}
    for i, (name, _) in enumerate(pairs):
        first = numbers.setdefault(compose_name(name), i)
        if first != i:
            raise UserError(
                f"{path}: the classes {first} and {i} are both called {escape_name(name)}; give each a wnid of its own"
            )


def _rows(path: pathlib.Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row as a dict) of each row."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            for column in columns:
                if header.count(column) != 1:
                    number = "two columns" if column in header else "no column"
                    raise UserError(f"{path} has {number} {column}; it needs {', '.join(columns)}, with commas between")
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise UserError(f"{path}, line {reader.line_num}: fewer columns than the header")
                if any(row.pop(None, ())):
                    raise UserError(
                        f"{path}, line {reader.line_num}: more columns than the header; put what has a comma in quotes"
                    )
                yield reader.line_num, row
    except FileNotFoundError:
        raise UserError(f"no such file: {path}; check --truth") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no csv file in UTF-8 ({error}); check --truth") from None


def _class_index(path, line, row):
    value = row["class_index"]
    if not (value.isascii() and value.isdigit() and int(value) < 1_000_000):
        raise UserError(f"{path}, line {line}: class_index is {value!r}, not a number from 0 on")
    return int(value)


def classes_of_folders(names: list[str]) -> tuple[list[int] | None, Classes]:
    """The class of each image by the folder that it lies in, where every image lies in one of several.

    Folders that all names begin with do not count. The classes are the first folders that differ, sorted; one that is
    written in two ways has the composed name.

    Returns:
        (class index of each image, the classes), or (None, ()) where the folders tell no classes.
    """
    folders = [name.split("/")[:-1] for name in names]
    level, shortest = 0, min(map(len, folders))
    while level < shortest and len({compose_name(path[level]) for path in folders}) == 1:
        level += 1
    if level == shortest:
        return None, ()
    spellings = collections.defaultdict(set)
    for path in folders:
        spellings[compose_name(path[level])].add(path[level])
    name_of = {form: next(iter(written)) if len(written) == 1 else form for form, written in spellings.items()}
    found = sorted(name_of, key=name_of.__getitem__)
    index_of = {form: i for i, form in enumerate(found)}
    return [index_of[compose_name(path[level])] for path in folders], tuple((name_of[form],) * 2 for form in found)


def short_name(name: str) -> str:
    """What a class is called in a picture or a table: the name up to its first comma, as ImageNet lists synonyms."""
    return name.split(",")[0].strip()
