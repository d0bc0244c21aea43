"""The image files in a tar, packed or not; of several tars one after the other, those of all.

Each header is verified, and the archive is read to its last byte: after the mark of an end, which are zeros, more zeros
or another tar may follow, and anything else is damage.
"""

import bz2
import errno
import functools
import gzip
import lzma
import tarfile
import typing
from collections.abc import Iterator

from tfpipeline.images.listing import Entry, Listing, fault_of_size

# What these readers raise over damaged bytes, beside what nobody foresaw.
DAMAGE = (tarfile.TarError, EOFError, lzma.LZMAError, gzip.BadGzipFile)

_EXTENSION_TYPES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
# What tarfile raises over a block of zeros and over none; it does not list these among what is public.
_ZERO_BLOCK, _NO_BLOCK = tarfile.__dict__["EOFHeaderError"], tarfile.__dict__["EmptyHeaderError"]
_MAX_EXTENSION_BYTES = 1_000_000  # of a long name or other attributes, which tarfile reads whole
_DECOMPRESSORS: dict[bytes, typing.Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def decompressor_of(magic: bytes) -> typing.Callable[[typing.BinaryIO], typing.Any] | None:
    """What opens a packed file that begins with `magic`, as gzip, bzip2 or xz; None for others."""
    return _DECOMPRESSORS.get(magic[:2])


def list_tar(file: typing.BinaryIO, beside: tuple[str, ...] = ()) -> Listing:
    """The image files in a tar, and those that `Listing` is told; an entry's place is (offset, length) in `file`."""
    listing = Listing(beside)
    for member in _members(file):
        place = (member.offset_data, member.size)
        listing.add(member.name, place, functools.partial(_fault_of_member, member))
    listing.read = lambda entry: _read_part(file, entry)
    return listing


def list_packed_tar(
    packed: typing.BinaryIO, spool: typing.BinaryIO, most_bytes: int, beside: tuple[str, ...] = ()
) -> Listing:
    """The same of a packed tar; an entry's place is (offset, length) in `spool`.

    A compressed stream can only be read from its beginning, and names come in any order: so one pass copies the images,
    still encoded, into `spool`.

    Raises:
        OSError: EFBIG, they have more than `most_bytes`.
    """
    listing, offset = Listing(beside), 0
    for member in _members(packed):
        before = len(listing.entries)
        listing.add(member.name, (offset, member.size), functools.partial(_fault_of_member, member))
        if len(listing.entries) > before and not listing.entries[-1].fault:
            if offset + member.size > most_bytes:
                raise OSError(errno.EFBIG, f"its images have more than {most_bytes:,} bytes")
            packed.seek(member.offset_data)
            spool.write(packed.read(member.size))
            offset += member.size
    listing.read = lambda entry: _read_part(spool, entry)
    return listing


def _read_part(file: typing.BinaryIO, entry: Entry) -> bytes:
    offset, length = entry.place
    file.seek(offset)
    content = file.read(length)
    if len(content) < length:
        raise EOFError("the archive ends early")
    return content


def _members(file: typing.BinaryIO) -> Iterator[tarfile.TarInfo]:
    """All members that are no directories, in the archive's order; afterwards `file` is read to its last byte."""
    with tarfile.open(
        fileobj=file, mode="r:", tarinfo=_StrictHeader, ignore_zeros=True, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        position = 0
        while member := tar.next():
            typing.cast(typing.Any, tar).members = []  # Or it would keep them all.
            if member.size < 0 or tar.offset <= position:
                raise tarfile.ReadError(f"a header at byte {position:,} states a size of {member.size} bytes")
            position = tar.offset
            if not member.isdir():
                yield member


class _StrictHeader(tarfile.TarInfo):
    """Raises over damaged headers, and over an end without its mark, which are blocks of zeros.

    tarfile alone takes a damaged header for the end of the archive, or, with `ignore_zeros`, passes over it.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> typing.Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENSION_TYPES and header.size > _MAX_EXTENSION_BYTES):
            raise tarfile.ReadError(f"a header states a size of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: typing.Any) -> typing.Self:
        try:
            return super().fromtarfile(archive)
        except _ZERO_BLOCK:
            archive.zeros_before = archive.offset + tarfile.BLOCKSIZE
            raise
        except _NO_BLOCK as error:
            if archive.offset and archive.offset == getattr(archive, "zeros_before", None):
                raise
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error


def _fault_of_member(member):
    if member.issparse():
        return "is a sparse member"
    if not member.isreg():
        return "is a link or a device"
    return fault_of_size(member.size)
