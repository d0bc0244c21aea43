"""The image files in a tar or zip archive or in a folder, in one fixed order, without ever extracting one to disk.

The order is that of Python's `sorted` over the names, whatever the order in the archive. Rules, the same for all three:

- Which files are images by their names, and how names are written, is said in `file_names`.
- Links, devices and sparse members of archives, encrypted members, nested archives, names that leave the archive and
  second members of one name are faults: each is refused by name, or listed where broken images are skipped.
"""

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import pathlib
import stat
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator

from tfpipeline.images.decoding import MAX_BYTES, BrokenImage
from tfpipeline.images.file_names import examine, is_archive
from tfpipeline.system import UserError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_EXTENSION_TYPES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_MAX_EXTENSION_BYTES = 1_000_000  # of a long name or other attributes, which tarfile reads whole
_DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image file: its name (escaped, one line), where its content is, or the fault that keeps it from being read."""

    name: str
    place: object
    fault: str | None = None


class Images:
    """The images at a path: `entries` sorted by name, and `read(entry)` for the content of one.

    Args:
        path: a folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive; its content decides which.

    Raises:
        UserError: there is nothing at `path`, it is damaged as a whole, or it holds no images.
    """

    def __init__(self, path: pathlib.Path):
        resources = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, resources.close)
        try:
            entries, self._read = _list(path, resources)
        except _DAMAGED as error:
            raise UserError(
                f"{path} is damaged or is no tar or zip archive ({error or type(error).__name__}); get it again, or"
                " unpack what is readable and give --images folder:DIR"
            ) from error
        self.entries: list[Entry] = _in_order(entries, path)

    def read(self, entry: Entry) -> bytes:
        """The content of an image file.

        Raises:
            BrokenImage: the entry has a fault, or its content is damaged.
        """
        if entry.fault:
            raise BrokenImage(entry.fault)
        try:
            content = self._read(entry)
        except (*_DAMAGED, NotImplementedError, OSError) as error:
            raise BrokenImage(f"cannot be read ({type(error).__name__}: {error})") from error
        if len(content) > MAX_BYTES:
            raise BrokenImage(_too_large())
        return content

    def close(self) -> None:
        """Closes the archive; it is closed as well when the object goes."""
        self._finalizer()


def _list(path, resources):
    """(entries, function that reads one); what must stay open for reading goes to `resources`."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; check the path after the colon in --images")
    if path.is_dir():
        return _list_folder(path)
    file = resources.enter_context(path.open("rb"))
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(b"PK"):
        return _list_zip(resources.enter_context(zipfile.ZipFile(file)))
    if magic[:2] in _DECOMPRESSORS:
        packed = resources.enter_context(_DECOMPRESSORS[magic[:2]](file))
        return _list_packed_tar(packed, resources.enter_context(tempfile.TemporaryFile()))
    return _list_tar(file)


def _in_order(entries, path):
    """Sorted by name; the second entry of a name becomes a fault."""
    entries.sort(key=lambda entry: entry.name)
    if not entries:
        raise UserError(
            f"{path} holds no images: no file in it has a name like *.png, *.jpg, *.jpeg, *.webp, *.gif, *.bmp, *.tif"
            " or *.ppm"
        )
    for i in range(1, len(entries)):
        if entries[i].name == entries[i - 1].name:
            entries[i] = dataclasses.replace(entries[i], fault="is the second member of this name")
    return entries


def _too_large():
    return f"has more than {MAX_BYTES:,} bytes"


# ---------------------------------------------------------------------------------------------------------- folders


def _list_folder(root):
    entries = [
        Entry(name, path, fault)
        for path in walk(root)
        for name, fault in [examine(path.relative_to(root).as_posix())]
        if name and not is_archive(name)
    ]
    for i, entry in enumerate(entries):
        if not entry.fault:
            entries[i] = dataclasses.replace(entry, fault=_fault_of_file(entry.place))
    return entries, lambda entry: entry.place.read_bytes()


def walk(directory: pathlib.Path, ancestors: tuple = ()) -> Iterator[pathlib.Path]:
    """All paths below a directory, those of directories excepted. Links are followed, but not back into an ancestor.

    Raises:
        UserError: a link leads to a folder that contains it.
    """
    status = directory.stat()
    here = (status.st_dev, status.st_ino)
    if here in ancestors:
        raise UserError(f"{directory} is a link to a folder that contains it; remove the link")
    for path in directory.iterdir():
        if path.is_dir():
            yield from walk(path, (*ancestors, here))
        else:
            yield path


def _fault_of_file(path):
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return _too_large() if status.st_size > MAX_BYTES else None


# -------------------------------------------------------------------------------------------------------------- zip


def _list_zip(archive):
    entries = []
    for member in archive.infolist():
        name, fault = examine(member.filename)
        if name and not member.is_dir():
            entries.append(Entry(name, member, fault or _fault_of_zip_member(member)))

    def read(entry):
        with archive.open(entry.place) as file:
            return file.read(MAX_BYTES + 1)

    return entries, read


def _fault_of_zip_member(member):
    if member.flag_bits & 0x1:
        return "is encrypted"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    return _too_large() if member.file_size > MAX_BYTES else None


# -------------------------------------------------------------------------------------------------------------- tar


def _list_tar(file):
    """Entries whose places are (offset, length) in the archive itself."""
    entries = [Entry(name, (member.offset_data, member.size), fault) for name, member, fault in _members(file)]

    def read(entry):
        offset, length = entry.place
        file.seek(offset)
        return file.read(length)

    return entries, read


def _list_packed_tar(packed, spool):
    """Entries whose places are (offset, length) in `spool`.

    A compressed stream can only be read from its beginning, and names come in any order: so one pass copies the images,
    still encoded, into a temporary file that has no name and vanishes with the process.
    """
    entries, offset = [], 0
    for name, member, fault in _members(packed):
        if not fault:
            packed.seek(member.offset_data)
            content = packed.read(member.size)
            spool.write(content)
        entries.append(Entry(name, (offset, member.size), fault))
        offset += 0 if fault else member.size
    while packed.read(1 << 20):
        pass  # To the end, where the checksum is.

    def read(entry):
        offset, length = entry.place
        spool.seek(offset)
        return spool.read(length)

    return entries, read


def _members(file):
    """(name, member, fault) of each image in a tar, in the archive's order."""
    with tarfile.open(
        fileobj=file, mode="r:", tarinfo=_StrictHeader, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        while member := tar.next():
            tar.members = []  # Or it would keep them all.
            name, fault = examine(member.name)
            if name and not member.isdir():
                yield name, member, fault or _fault_of_tar_member(member)


class _StrictHeader(tarfile.TarInfo):
    """Raises over damaged headers; tarfile alone takes one in the middle for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENSION_TYPES and header.size > _MAX_EXTENSION_BYTES):
            raise tarfile.ReadError(f"a header states a size of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error


def _fault_of_tar_member(member):
    if member.issparse():
        return "is a sparse member"
    if not member.isreg():
        return "is a link or a device"
    return _too_large() if member.size > MAX_BYTES else None
