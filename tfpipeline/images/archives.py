"""The image files in a tar or zip archive or in a folder, in one fixed order, without ever extracting one to disk.

The order is that of Python's `sorted` over the names, whatever the order in the archive. Rules, the same for all three:

- Which files are images by their names, and how names are written, is said in `file_names`.
- Links, devices and sparse members of archives, encrypted members, nested archives, names that leave the archive and
  second members of one name are faults: each is refused by name, or listed where broken images are skipped.
- An archive that is damaged as a whole is refused as a whole.
"""

import collections
import contextlib
import dataclasses
import errno
import pathlib
import tempfile
import typing
import weakref
import zipfile

from tfpipeline.images import tars, zips
from tfpipeline.images.decoding import BrokenImage
from tfpipeline.images.folders import list_folder
from tfpipeline.images.listing import Entry, Listing
from tfpipeline.system import UserError

# What a packed tar's images may take in TMPDIR: image files hardly become smaller when they are packed.
_SPOOLED_ANYWAY, _TIMES_UNPACKED = 128 * 2**20, 16


class Images:
    """The images at a path: `entries` sorted by name, and `read(entry)` for the content of one.

    Args:
        path: a folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive; its content decides which.
        beside: endings of names of further files in a tar that are entries, too.

    Attributes:
        entries: one for each image, sorted by name.
        left_out: how many other files there are, by the reason.

    Raises:
        UserError: there is nothing at `path`, it is damaged as a whole, or it holds no images.
    """

    def __init__(self, path: pathlib.Path, beside: tuple[str, ...] = ()):
        resources = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, resources.close)
        try:
            listing = _list(path, beside, resources)
        except UserError:
            raise
        except Exception as error:
            # Over damaged bytes the readers of archives raise nearly anything beside what they say they do.
            raise UserError(_problem(path, error)) from error
        self._read = listing.read
        self.left_out: collections.Counter[str] = listing.left_out
        self.entries: list[Entry] = _in_order(listing.entries)
        if not self.entries:
            raise UserError(_no_images(path, listing))

    def read(self, entry: Entry) -> bytes:
        """The content of an image file.

        Raises:
            BrokenImage: the entry has a fault, or its content is damaged.
        """
        if entry.fault:
            raise BrokenImage(entry.fault)
        try:
            return self._read(entry)
        except Exception as error:
            raise BrokenImage(f"cannot be read ({type(error).__name__}: {error})") from error

    def close(self) -> None:
        """Closes the archive; it is closed as well when the object goes."""
        self._finalizer()


def _list(path: pathlib.Path, beside: tuple[str, ...], resources: contextlib.ExitStack) -> Listing:
    """What is at a path; what must stay open for reading goes to `resources`."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; check the path after the colon in --images")
    if path.is_dir():
        return list_folder(path)
    file = resources.enter_context(path.open("rb"))
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(b"PK"):
        return zips.list_zip(resources.enter_context(zipfile.ZipFile(file)))
    if unpack := tars.decompressor_of(magic):
        packed = resources.enter_context(unpack(file))
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - without a name, it vanishes with the process
        most_bytes = _SPOOLED_ANYWAY + _TIMES_UNPACKED * path.stat().st_size
        copy = typing.cast(typing.BinaryIO, resources.enter_context(spool))
        return tars.list_packed_tar(packed, copy, most_bytes, beside)
    return tars.list_tar(file, beside)


def _in_order(entries):
    """Sorted by name; the second entry of a name becomes a fault."""
    entries.sort(key=lambda entry: entry.name)
    for i in range(1, len(entries)):
        if entries[i].name == entries[i - 1].name:
            entries[i] = dataclasses.replace(entries[i], fault="is the second member of this name")
    return entries


def _no_images(path, listing):
    left_out = listing.left_out
    others = f"; files left out: {describe(left_out)}" if left_out else ""
    return (
        f"{path} holds no images: no file in it has a name like *.png, *.jpg, *.jpeg, *.webp, *.gif, *.bmp, *.tif"
        f" or *.ppm{others}"
    )


def describe(left_out: collections.Counter[str]) -> str:
    """How many files are left out, and how many of these for which reason."""
    return f"{left_out.total():,} ({', '.join(f'{number:,} {reason}' for reason, number in sorted(left_out.items()))})"


def _problem(path, error):
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{tempfile.gettempdir()} has no room for a copy of the images of {path}; set TMPDIR to a larger disk"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return (
            f"{path} is not read: {error.strerror}, which would lie in {tempfile.gettempdir()} meanwhile; if that is"
            " right, unpack it and give --images folder:DIR"
        )
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return f"{path} cannot be read ({error.strerror}); check the disk and the rights of the file"
    reason = f"{error or type(error).__name__}" if isinstance(error, (*tars.DAMAGE, *zips.DAMAGE)) else repr(error)
    return (
        f"{path} is damaged or is no tar or zip archive ({reason}); get it again, or unpack what is readable and give"
        " --images folder:DIR"
    )
