"""Paths as people give them."""

import pathlib

from tfpipeline.system import FlagError


def expand(place: str) -> pathlib.Path:
    """The path that `place` names, where "~" is the home directory.

    Raises:
        FlagError: nobody knows that home directory.
    """
    try:
        return pathlib.Path(place).expanduser()
    except RuntimeError as error:
        raise FlagError(f"{place}: the home directory is not known ({error}); give the path without ~") from error
