"""python -m jobs.list_imagenet_classes: writes the list of ImageNet's classes that the program brings along."""

import dataclasses
import pathlib
import zipfile

from jobs import command
from tfpipeline.system import UserError, write_csv
from tfpipeline.system.flags import Flags, flag, required

EXAMPLE = "python -m jobs.list_imagenet_classes --wheel timm-1.0.31-py3-none-any.whl"
# In the package timm (Apache License 2.0): the ids in the usual order, and WordNet's words for each.
_IDS, _NAMES = "timm/data/_info/imagenet_synsets.txt", "timm/data/_info/imagenet_synset_to_lemma.txt"
CLASSES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Writes class_index, wnid and names of ImageNet's classes, as the PyPI package timm lists them.

    The wheel comes by: pip download --no-deps timm==1.0.31
    """

    wheel: str = required("wheel of timm, which is read and not installed", metavar="FILE")
    out: str = flag("tfpipeline/images/imagenet.csv", "the csv file; the one that is there is replaced", metavar="CSV")


def run(config: Config) -> dict:
    """Reads the wheel, writes the csv and returns where it is."""
    try:
        with zipfile.ZipFile(config.wheel) as wheel:
            ids = wheel.read(_IDS).decode().split()
            lines = wheel.read(_NAMES).decode().splitlines()
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UserError(
            f"--wheel {config.wheel} is no wheel of timm that can be read ({error}); pip download --no-deps timm"
        ) from error
    names = dict(line.split("\t", 1) for line in lines)
    if len(ids) != CLASSES or ids != sorted(ids) or not names.keys() >= set(ids):
        raise UserError(f"--wheel {config.wheel} does not list {CLASSES:,} classes in order; take timm 1.0.31")
    rows = [(index, wnid, names[wnid]) for index, wnid in enumerate(ids)]
    write_csv(pathlib.Path(config.out), ["class_index", "wnid", "names"], rows)
    return {"classes": len(rows), "out": config.out}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
