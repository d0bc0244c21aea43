"""What the images really show, for sources that do not say it themselves: a csv file, or the names of folders."""

import csv
import pathlib

from tfpipeline.images.file_names import escaped
from tfpipeline.system import UserError

Classes = tuple[tuple[str, str], ...]  # (WordNet id or name, name to show) of each class


def join_csv(names: list[str], path: pathlib.Path) -> tuple[list[int], Classes]:
    """The class of each image by a csv file with the columns file, wnid, class_index.

    A row belongs to the image whose whole name, or whose name without its folders, is the row's `file`.

    Args:
        names: the images' names.
        path: the csv file; a `classes.csv` (class_index, wnid, name) beside it names the classes.

    Returns:
        (class index of each image, the classes).

    Raises:
        UserError: rows and images do not match one to one, or a row contradicts itself or the classes.
    """
    table = _read_table(path)
    full, base = set(names), {}
    for name in names:
        base.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    found, without_image = {}, []
    for file, (_, class_index) in table.items():
        matches = [file] if file in full else base.get(file, [])
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


def _read_table(path):
    """file -> (wnid, class_index)"""
    table = {}
    for line, row in _rows(path, ("file", "wnid", "class_index")):
        file = escaped(row["file"])
        if file in table:
            raise UserError(f"{path}, line {line}: a second row for {file}; remove one")
        table[file] = (row["wnid"], _class_index(path, line, row))
    return table


def _read_classes(path, table):
    listed = path.with_name("classes.csv")
    if listed.exists():
        classes = {_class_index(listed, n, row): row for n, row in _rows(listed, ("class_index", "wnid", "name"))}
        if sorted(classes) != list(range(len(classes))):
            raise UserError(f"{listed}: class_index must run from 0 to {len(classes) - 1} without gaps")
        pairs = tuple((classes[i]["wnid"], classes[i]["name"]) for i in range(len(classes)))
    else:
        known = {index: wnid for wnid, index in table.values()}
        pairs = tuple((known.get(i, str(i)), known.get(i, str(i))) for i in range(max(known, default=-1) + 1))
    for file, (wnid, index) in table.items():
        if index >= len(pairs) or pairs[index][0] != wnid:
            other = pairs[index][0] if index < len(pairs) else "no class"
            raise UserError(
                f"{path}: {file} has wnid {wnid} and class_index {index}, but class {index} is {other}"
                f" {f'in {listed}' if listed.exists() else 'elsewhere in the file'}"
            )
    return pairs


def _rows(path, columns):
    """(line number, row as a dict) of each row."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise UserError(f"{path} has no column {missing[0]}; it needs {', '.join(columns)}")
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise UserError(f"{path}, line {reader.line_num}: fewer columns than the header")
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

    Folders that all names begin with do not count. The classes are the first folders that differ, sorted.

    Returns:
        (class index of each image, the classes), or (None, ()) where the folders tell no classes.
    """
    folders = [name.split("/")[:-1] for name in names]
    level, shortest = 0, min(map(len, folders))
    while level < shortest and len({path[level] for path in folders}) == 1:
        level += 1
    if level == shortest:
        return None, ()
    found = sorted({path[level] for path in folders})
    index_of = {folder: i for i, folder in enumerate(found)}
    return [index_of[path[level]] for path in folders], tuple((folder, folder) for folder in found)
