"""The flags that a label store was made with, beside its spec: they repeat its command, and nothing depends on them."""

import pathlib
from typing import Any

from tfpipeline.system import UserError, read_hashed, write_hashed

FLAGS_FILE = "labeling.json"


def write_flags(directory: pathlib.Path, flags: dict[str, Any]) -> None:
    """Writes labeling.json, unless it is there: who goes on with labels does not begin them.

    Args:
        directory: the label store.
        flags: of jobs.label_imagenet64, name -> value; those that have their defaults may be missing.
    """
    if not (directory / FLAGS_FILE).exists():
        write_hashed(directory / FLAGS_FILE, {"flags": flags})


def read_flags(directory: pathlib.Path) -> dict[str, Any] | None:
    """The flags in labeling.json; None in label stores of older versions.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / FLAGS_FILE
    try:
        content = read_hashed(path)
        if content is not None and not isinstance(content.get("flags"), dict):
            raise ValueError("it has no flags")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it: it tells only how the labels were made") from error
    return None if content is None else content["flags"]
