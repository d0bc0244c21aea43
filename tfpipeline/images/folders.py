"""The image files in a folder and the folders below it. Links are followed, but not back into a folder above."""

import functools
import pathlib
import stat
from collections.abc import Iterator

from tfpipeline.images.file_names import NO_IMAGE, examine, is_archive
from tfpipeline.images.listing import Entry, Listing, fault_of_size
from tfpipeline.system import UserError

ARCHIVES = "archives, which --images archive:FILE reads"  # a reason to leave a file out


def list_folder(root: pathlib.Path) -> Listing:
    """The image files below a folder; an entry's place is its path.

    A folder that cannot be opened is an entry with a fault, since nobody knows what it holds.

    Raises:
        UserError: a link leads to a folder that contains it.
    """
    listing = Listing()
    for path, problem in walk(root):
        name = path.relative_to(root).as_posix()
        if problem:
            _add_closed_folder(listing, f"{name}/", problem)
        elif is_archive(name):
            listing.left_out[ARCHIVES] += 1
        else:
            listing.add(name, path, functools.partial(_fault_of_file, path))
    listing.read = lambda entry: entry.place.read_bytes()
    return listing


def _add_closed_folder(listing, name, problem):
    left_out = examine(f"{name}file").left_out
    if left_out == NO_IMAGE:  # Nothing is wrong with the folder's own name.
        listing.entries.append(Entry(name, None, f"is a folder that cannot be opened ({problem})"))
    else:
        listing.left_out[left_out] += 1


def walk(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str | None]]:
    """All files below a folder.

    Yields:
        (path, None) of a file, and (path, problem) of a folder that cannot be opened.

    Raises:
        UserError: a link leads to a folder that contains it.
    """
    waiting: list[tuple[pathlib.Path, tuple]] = [(root, ())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            children = list(folder.iterdir())
        except OSError as error:
            yield folder, error.strerror or type(error).__name__
            continue
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise UserError(f"{folder} is a link to a folder that contains it; remove the link")
        for child in children:
            try:
                is_folder = child.is_dir()
            except OSError as error:  # A path that is too long, which may be that of a folder.
                yield child, error.strerror
                continue
            if is_folder:
                waiting.append((child, (*above, here)))
            else:
                yield child, None


def _fault_of_file(path):
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return fault_of_size(status.st_size) if stat.S_ISREG(status.st_mode) else "is no regular file"
