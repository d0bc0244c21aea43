"""The image files in a zip, its directory verified against the members themselves.

zipfile believes the directory at the end of the file. A flipped bit there can lose members without an error, and so can
one zip written after another: each member is looked at where it stands, and so is what stands between them.

Names: backslashes are separators, as old tools of Windows write them; what is UTF-8 is read so, with or without the
flag that says it; the rest is in code page 437.
"""

import functools
import stat
import struct
import zipfile
import zlib

from tfpipeline.images.file_names import escape_name, examine
from tfpipeline.images.listing import Entry, Listing, fault_of_size

DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError)  # what zipfile raises, beside what nobody foresaw

_HEADER, _SIGNATURE = struct.Struct("<4s5H3L2H"), b"PK\x03\x04"  # of a member
_UTF8, _ENCRYPTED = 0x800, 0x1  # flags of a member
_UNICODE_PATH = 0x7075  # an extra field: the name in UTF-8
_LONGEST_DESCRIPTOR = 24  # bytes that may follow a member's content, with its size


def list_zip(archive: zipfile.ZipFile) -> Listing:
    """The image files in a zip; an entry's place is its ZipInfo.

    Raises:
        zipfile.BadZipFile: there are members that the directory does not list.
    """
    listing = Listing()
    for member, own_name in _members(archive):
        name = _text_of(_raw_name(member), member)
        if own_name is not None and own_name != _raw_name(member):
            other = _text_of(own_name, member)
            if not (examine(name).left_out and examine(other).left_out):
                fault = f"cannot be read (its names in the directory and at its content, {escape_name(other)}, differ)"
                listing.entries.append(Entry(escape_name(name), member, fault))
                continue
        if not name.endswith("/"):
            listing.add(name, member, functools.partial(_fault_of_member, member))
    listing.read = lambda entry: _read_member(archive, entry.place)
    return listing


def _members(archive):
    """(member, its name in bytes where it stands, or None where none stands there), in the order of their places."""
    file, position = archive.fp, 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        _check_gap(file, position, member.header_offset)
        file.seek(max(member.header_offset, 0))
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
            yield member, None
            continue
        *_, name_length, extra_length = _HEADER.unpack(header)
        yield member, file.read(name_length)
        end = member.header_offset + len(header) + name_length + extra_length + member.compress_size
        position = max(position, end)
    _check_gap(file, position, archive.start_dir)


def _check_gap(file, first, last):
    """Raises BadZipFile where a member begins among the bytes first..last-1, which belong to no listed one."""
    if first < last:
        file.seek(first)
        found = file.read(min(last - first, _LONGEST_DESCRIPTOR + len(_SIGNATURE))).find(_SIGNATURE)
        if found >= 0:
            raise zipfile.BadZipFile(f"its directory does not list the member at byte {first + found:,}")


def _raw_name(member):
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def _text_of(raw, member):
    """A member's name as text, with "/" between its parts."""
    raw = raw.partition(b"\0")[0]
    try:
        name = (_unicode_path(raw, member.extra) or raw).decode("utf-8")
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    return name.replace("\\", "/")


def _unicode_path(raw, extra):
    """The name in an extra field that holds it in UTF-8, or None."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        field = extra[4 : 4 + length]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<L", zlib.crc32(raw)):
            return field[5:]
        extra = extra[4 + length :]
    return None


def _fault_of_member(member):
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    return fault_of_size(member.file_size)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(member.file_size + 1)  # With a bound, whatever it grows to.
