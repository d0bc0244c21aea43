"""ImageNet's thousand classes: which they are, in the usual order, and what they are called in English.

imagenet.csv (class_index, wnid, names) comes with the program; `python -m jobs.list_imagenet_classes` writes it.
"""

import collections
import csv
import functools
import pathlib

from tfpipeline.images.file_names import compose_name
from tfpipeline.images.truth import short_name

CLASSES_FILE = pathlib.Path(__file__).with_name("imagenet.csv")


@functools.cache
def imagenet_names() -> dict[str, str]:
    """WordNet id -> names, the usual one first, after a comma others; in the usual order, that of sorted ids."""
    with open(CLASSES_FILE, newline="", encoding="utf-8") as file:
        return {row["wnid"]: row["names"] for row in csv.DictReader(file)}


def imagenet_name(name: str) -> str:
    """The English names of the class that a WordNet id stands for; any other text as it is."""
    return imagenet_names().get(name, name)


def find_imagenet_class(name: str) -> str | None:
    """The WordNet id of the class of that name; None where there is none, or more than one.

    Args:
        name: a WordNet id, or one of the names of a class, the usual ones before others. Capitals do not count, and
            "_" and "-" are spaces, as in names of folders.
    """
    if name in imagenet_names():
        return name
    usual, every = _ids_by_name()
    form = _plain(name)
    found = usual.get(form) or every.get(form) or usual.get(_plain(short_name(name))) or []
    return found[0] if len(found) == 1 else None


@functools.cache
def _ids_by_name():
    """(usual name -> ids, any name -> ids)"""
    usual, every = collections.defaultdict(list), collections.defaultdict(list)
    for wnid, names in imagenet_names().items():
        parts = list(dict.fromkeys(map(_plain, names.split(","))))
        usual[parts[0]].append(wnid)
        for part in parts:
            every[part].append(wnid)
    return usual, every


def _plain(name):
    return " ".join(compose_name(name).lower().replace("_", " ").replace("-", " ").split())
