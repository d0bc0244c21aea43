"""Hostile and odd archives: nothing is extracted, followed or run; each oddity is refused by name."""

import bz2
import functools
import gzip
import io
import lzma
import random
import re
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_tar, write_zip
from tfpipeline.images import archives, listing
from tfpipeline.system.errors import UserError

PACKERS = ("gz", "bz2", "xz")
GOOD = encoded(pixels_of(0))
OTHER = encoded(pixels_of(1))


def tar_of(*members):
    """A tar of (name, content or type, attributes of the header)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content, *attributes in members:
            header = tarfile.TarInfo(name)
            for attribute, value in attributes:
                setattr(header, attribute, value)
            if header.isreg():
                header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def special(name, kind, **attributes):
    return (name, b"", ("type", kind), *attributes.items())


def zip_of(*members):
    """A zip of (name, content, attributes of the entry)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, *attributes in members:
            entry = zipfile.ZipInfo(name)
            for attribute, value in attributes:
                setattr(entry, attribute, value)
            archive.writestr(entry, content)
    return file.getvalue()


def changed_zip(name, content, offset_local, offset_central, value):
    """A zip whose only entry has a two-byte field of both its headers changed."""
    archive = bytearray(zip_of((name, content)))
    central = archive.index(b"PK\x01\x02")
    for position in (offset_local, central + offset_central):
        archive[position : position + 2] = struct.pack("<H", value)
    return bytes(archive)


def with_sparse_member():
    header = tarfile.TarInfo("bad.png")
    header.type = tarfile.GNUTYPE_SPARSE
    content = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    content[386:410] = b"00000000000\0" + b"00000000000\0"
    content[483:495] = b"00000010000\0"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content)
    return bytes(content) + tar_of(("good.png", GOOD))


good = ("good.png", GOOD)
SYMLINK = ("external_attr", 0o120777 << 16)

# What is refused by name, and left out and listed with --skip-broken: {case: (archive, reason)}; the member is bad.png
# or ends in it, and good.png is there too.
FAULTY = {
    "tar, parent folder": (tar_of(("../bad.png", GOOD), good), "has a name that leads out of the archive"),
    "tar, parent folder within": (tar_of(("a/../../bad.png", GOOD), good), "leads out of the archive"),
    "tar, absolute": (tar_of(("/etc/bad.png", GOOD), good), "leads out of the archive"),
    "tar, symbolic link": (tar_of(special("bad.png", tarfile.SYMTYPE, linkname="/etc/passwd"), good), "is a link"),
    "tar, hard link": (tar_of(good, special("bad.png", tarfile.LNKTYPE, linkname="good.png")), "is a link"),
    "tar, device": (tar_of(special("bad.png", tarfile.CHRTYPE, devmajor=1, devminor=5), good), "is a link or a device"),
    "tar, block device": (tar_of(special("bad.png", tarfile.BLKTYPE), good), "is a link or a device"),
    "tar, pipe": (tar_of(special("bad.png", tarfile.FIFOTYPE), good), "is a link or a device"),
    "tar, sparse": (with_sparse_member(), "is a sparse member"),
    "tar, empty": (tar_of(("bad.png", b""), good), "is empty"),
    "zip, parent folder": (zip_of(("../bad.png", GOOD), good), "leads out of the archive"),
    "zip, absolute": (zip_of(("/bad.png", GOOD), good), "leads out of the archive"),
    "zip, symbolic link": (zip_of(("bad.png", b"/etc/passwd", SYMLINK), good), "is a link or a device"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_members_are_refused_by_name_or_left_out_and_listed(tmp_path, case):
    content, reason = FAULTY[case]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=rf"image \S*bad.png {reason}|image \S*bad.png .*{reason}.* --skip-broken"):
        list(source_of(f"archive:{tmp_path / 'x'}"))
    source = source_of(f"archive:{tmp_path / 'x'}", skip_broken=True)
    ((name, pixels, _),) = source
    assert name == "good.png"
    np.testing.assert_array_equal(pixels, pixels_of(0))
    assert [name.endswith("bad.png") for name in source.skipped] == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not (tmp_path.parent / "bad.png").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed_zip("bad.png", GOOD, 6, 8, 1), "is encrypted"),
        (changed_zip("bad.png", GOOD, 8, 10, 99), "cannot be read .*compression"),
        (zip_of(("bad.png", GOOD)).replace(GOOD[40:44], b"\0\0\0\0"), "cannot be read .*Bad CRC-32"),
        (zip_of(("bad.png", GOOD)).replace(b"bad.png", b"two.png", 1), "cannot be read .*differ"),
    ],
    ids=["encrypted", "unknown compression", "checksum", "two names"],
)
def test_unreadable_zip_members_are_refused_by_name(tmp_path, content, reason):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match=f"image bad.png {reason}"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}"))


@pytest.mark.parametrize("write", [write_tar, functools.partial(write_tar, mode="w:gz"), write_zip])
def test_members_larger_than_an_image_can_be_are_refused(tmp_path, monkeypatch, write):
    monkeypatch.setattr(listing, "MAX_BYTES", 300)
    path = write(tmp_path / "x", {"bad.png": OTHER + bytes(300), "good.png": GOOD})
    with pytest.raises(UserError, match=r"image bad.png has more than 300 bytes"):
        list(source_of(f"archive:{path}"))
    assert [name for name, _, _ in source_of(f"archive:{path}", skip_broken=True)] == ["good.png"]


@pytest.mark.parametrize("nested", ["inner.tar", "inner.tar.gz", "inner.TGZ", "inner.zip"])
def test_archives_within_archives_are_refused(tmp_path, nested):
    path = write_tar(tmp_path / "x.tar", {"good.png": GOOD, nested: tar_of(good)})
    with pytest.raises(UserError, match=f"image {nested} is an archive within the archive; unpack it"):
        list(source_of(f"archive:{path}"))


@pytest.mark.parametrize("make", [tar_of, pytest.param(zip_of, marks=pytest.mark.filterwarnings("ignore:Duplicate"))])
def test_second_members_of_a_name_are_refused_and_the_first_counts(tmp_path, make):
    (tmp_path / "x").write_bytes(make(good, ("./good.png", OTHER), ("good.png", OTHER)))
    with pytest.raises(UserError, match=r"image good.png is the second member of this name"):
        list(source_of(f"archive:{tmp_path / 'x'}"))
    source = source_of(f"archive:{tmp_path / 'x'}", skip_broken=True)
    ((_, pixels, _),) = source
    np.testing.assert_array_equal(pixels, pixels_of(0))
    assert source.skipped == ["good.png", "good.png"]


def test_directories_named_like_images_are_no_images(tmp_path):
    (tmp_path / "x").write_bytes(tar_of(special("dir.png", tarfile.DIRTYPE), ("dir.png/good.png", GOOD)))
    assert [name for name, _, _ in source_of(f"archive:{tmp_path / 'x'}")] == ["dir.png/good.png"]
    (tmp_path / "y").write_bytes(zip_of(("dir.png/", b""), ("dir.png/good.png", GOOD)))
    assert [name for name, _, _ in source_of(f"archive:{tmp_path / 'y'}")] == ["dir.png/good.png"]


TAR = tar_of(*((f"{i}.png", GOOD) for i in range(4)))
SECOND_HEADER = TAR.index(b"1.png")


def damaged_header():
    content = bytearray(TAR)
    content[SECOND_HEADER] ^= 1
    return bytes(content)


def large_extension():
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def negative_size():
    header = bytearray(tarfile.TarInfo("1.png").tobuf())
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + TAR


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EmptyHeader|empty"),
        (b"no archive at all", "truncated header"),
        (bytes(range(256)) * 8, "bad checksum|invalid header"),
        (TAR[: SECOND_HEADER + 300], "truncated header"),
        (TAR[: SECOND_HEADER + 520], "unexpected end of data"),
        (TAR[:SECOND_HEADER], "empty header"),
        (damaged_header(), "bad checksum"),
        (large_extension(), "states a size of 1099511627776"),
        (negative_size(), "states a size of -1"),
        (zip_of(good)[:-30], "not a zip file|Bad"),
        (b"PK\x03\x04" + bytes(100), "not a zip file"),
        (b"\x1f\x8b" + bytes(100), "gzip|compress|damaged"),
    ],
    ids=[
        *("empty", "text", "bytes", "cut in a header", "cut in an image", "cut between", "damaged header"),
        *("long extension", "negative size", "cut zip", "zeros after PK", "zeros after gzip's signature"),
    ],
)
def test_archives_damaged_as_a_whole_are_named(tmp_path, content, reason):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UserError, match=rf"x.tar is damaged or is no tar or zip archive \(.*({reason}).*get it again"):
        list(source_of(f"archive:{tmp_path / 'x.tar'}", skip_broken=True))


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_packed_archives_that_are_cut_or_changed_are_named(tmp_path, mode):
    whole = write_tar(
        tmp_path / "whole", {f"{i}.png": encoded(pixels_of(i, 40, 40)) for i in range(9)}, f"w:{mode}"
    ).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-6], whole[:900] + bytes([whole[900] ^ 8]) + whole[901:]):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(UserError, match=r"x.tar is damaged"):
            list(source_of(f"archive:{tmp_path / 'x.tar'}", skip_broken=True))


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_small_packed_archive_does_not_fill_the_disk(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(archives, "_SPOOLED_ANYWAY", 20_000)
    path = write_tar(tmp_path / "x.tar", {f"{i}.png": bytes(50_000) for i in range(40)}, f"w:{mode}")
    most = 20_000 + 16 * path.stat().st_size
    with pytest.raises(UserError, match=rf"x.tar is not read: its images have more than {most:,} bytes, .* unpack it"):
        list(source_of(f"archive:{path}", skip_broken=True))


def without_end(tar):
    return tar.rstrip(b"\0") + bytes(-len(tar.rstrip(b"\0")) % 512)


PARTS = [tar_of((f"{i}.png", GOOD)) for i in range(3)]


@pytest.mark.parametrize(
    "content",
    [
        b"".join(PARTS),
        b"".join(without_end(part) + bytes(1024) for part in PARTS),
        b"".join(without_end(part) + bytes(512) for part in PARTS),
        b"".join(PARTS) + bytes(40 * 512),
        gzip.compress(PARTS[0]) + gzip.compress(PARTS[1] + PARTS[2]),
        bz2.compress(PARTS[0]) + bz2.compress(PARTS[1]) + bz2.compress(PARTS[2]),
        lzma.compress(PARTS[0] + PARTS[1]) + lzma.compress(PARTS[2]),
        bytes(1024) + b"".join(PARTS),
    ],
    ids=["padded", "two blocks", "one block", "zeros after", "gzip", "bzip2", "xz", "zeros before"],
)
def test_tars_one_after_the_other_are_read_to_the_last(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert [name for name, _, _ in source_of(f"archive:{tmp_path / 'x'}")] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b"more", "truncated header"),
        (b"PK" + bytes(1022), "bad checksum"),
        (bytes(range(256)) * 4, "bad checksum|invalid header"),
        (bytes(1024) + b"\x01" + bytes(511), "bad checksum"),
        (bytes(100), "truncated header"),
        (PARTS[1][:300], "truncated header"),
        (PARTS[1][:600], "unexpected end of data|truncated|empty"),
    ],
)
def test_what_follows_the_end_of_a_tar_and_is_none_is_damage(tmp_path, rest, reason):
    (tmp_path / "x.tar").write_bytes(PARTS[0] + rest)
    with pytest.raises(UserError, match=rf"x.tar is damaged or is no tar or zip archive \(.*({reason})"):
        list(source_of(f"archive:{tmp_path / 'x.tar'}"))


def with_name(archive, old, new):
    assert archive.count(old) == 2  # In the header of the member and in the directory.
    return archive.replace(old, new)


def with_unicode_path(raw, name):
    """A zip whose only name is `raw`, with the extra field that holds it in UTF-8."""
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    entry = zipfile.ZipInfo("x" * len(raw))
    entry.extra = struct.pack("<HH", 0x7075, len(field)) + field
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, GOOD)
    return with_name(file.getvalue(), b"x" * len(raw), raw)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (with_name(zip_of(("xxxxx.png", GOOD)), b"xxxxx.png", "café.png".encode()), "café.png"),
        (with_name(zip_of(("xxxxxx/1.png", GOOD)), b"xxxxxx/1.png", "画像/1.png".encode()), "画像/1.png"),
        (with_name(zip_of(("cafx.png", GOOD)), b"cafx.png", "café.png".encode("cp437")), "café.png"),
        (zip_of(("café.png", GOOD)), "café.png"),
        (with_unicode_path("café.png".encode("cp437"), "кафе.png"), "кафе.png"),
        (with_name(zip_of(("ax1.png", GOOD)), b"ax1.png", b"a\\1.png"), "a/1.png"),
        (with_name(zip_of(("1.pngx.txt", GOOD)), b"1.pngx.txt", b"1.png\0.txt"), "1.png"),
    ],
    ids=["UTF-8 without its flag", "two letters of three bytes", "cp437", "flag", "extra field", "backslash", "zero"],
)
def test_names_in_zips_are_read_as_they_are_meant(tmp_path, content, name):
    (tmp_path / "x.zip").write_bytes(content)
    ((found, pixels, _),) = source_of(f"archive:{tmp_path / 'x.zip'}")
    assert found == name
    np.testing.assert_array_equal(pixels, pixels_of(0))


def test_backslashes_that_lead_out_of_a_zip_are_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(zip_of(("..\\..\\bad.png", GOOD)))
    with pytest.raises(UserError, match=r"image \.\./\.\./bad.png has a name that leads out of the archive"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}"))


def zip_without(name, content):
    """A zip whose directory does not list one of its members."""
    archive = bytearray(content)
    for start in (match.start() for match in re.finditer(b"PK\x01\x02", bytes(archive))):
        name_length, extra_length, comment_length = struct.unpack_from("<3H", archive, start + 28)
        end = start + 46 + name_length + extra_length + comment_length
        if archive[start + 46 : start + 46 + name_length] == name.encode():
            break
    archive_end = archive.index(b"PK\x05\x06")
    count, _, size, offset = struct.unpack_from("<2H2L", archive, archive_end + 8)
    struct.pack_into("<2H2L", archive, archive_end + 8, count - 1, count - 1, size - (end - start), offset)
    del archive[start:end]
    return bytes(archive)


def streamed_zip_of(*members):
    """A zip written to a pipe: the sizes follow the content."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        def seek(self, *_):
            raise OSError

    file = Pipe()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


THREE = [(f"{i}.png", GOOD) for i in range(3)]


@pytest.mark.parametrize("make", [zip_of, streamed_zip_of])
@pytest.mark.parametrize("lost", ["0.png", "1.png", "2.png"])
def test_a_zip_whose_directory_lists_fewer_than_there_are_is_refused(tmp_path, make, lost):
    whole = make(*THREE)
    (tmp_path / "x.zip").write_bytes(whole)
    assert len(list(source_of(f"archive:{tmp_path / 'x.zip'}"))) == 3
    (tmp_path / "x.zip").write_bytes(zip_without(lost, whole))
    with pytest.raises(UserError, match=r"x.zip is damaged .*its directory does not list the member at byte [\d,]+"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}", skip_broken=True))


def test_zips_one_after_the_other_are_refused_rather_than_read_in_part(tmp_path):
    (tmp_path / "x.zip").write_bytes(zip_of(*THREE) + zip_of(("other.png", OTHER)))
    with pytest.raises(UserError, match="its directory does not list the member at byte 0"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}"))


def test_a_comment_in_a_zip_does_no_harm_and_a_program_before_it_is_none(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"a comment"
        for name, content in THREE:
            archive.writestr(name, content)
    (tmp_path / "x.zip").write_bytes(file.getvalue())
    assert len(list(source_of(f"archive:{tmp_path / 'x.zip'}"))) == 3
    (tmp_path / "x.zip").write_bytes(b"MZ a program that unpacks itself" + file.getvalue())
    with pytest.raises(UserError, match="is damaged or is no tar or zip archive"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}"))


@pytest.mark.parametrize("other", [".png", ".txt"])
def test_a_member_whose_two_names_differ_is_not_left_out_by_one_of_them(tmp_path, other):
    content = zip_of(("a.png", GOOD), ("good.png", GOOD))
    position = content.rindex(b"a.png")
    (tmp_path / "x.zip").write_bytes(content[:position] + b"b" + other.encode() + content[position + 5 :])
    with pytest.raises(UserError, match=rf"image b{other} cannot be read \(its names .* a.png, differ\)"):
        list(source_of(f"archive:{tmp_path / 'x.zip'}"))


def damage(content, position, bit):
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


@pytest.mark.slow
def test_no_flipped_bit_of_a_zip_loses_an_image_without_a_word(tmp_path):
    images = {f"{i}.png": encoded(pixels_of(i, 2, 2)) for i in range(2)}
    content = zip_of(*images.items(), ("README", b"text"))
    directory = content.index(b"PK\x01\x02")
    flips = [(position, position % 8) for position in range(directory)]
    flips += [(position, bit) for position in range(directory, len(content)) for bit in range(8)]
    whole = 0
    for position, bit in flips:
        (tmp_path / "x.zip").write_bytes(damage(content, position, bit))
        try:
            found = [(name, pixels) for name, pixels, _ in source_of(f"archive:{tmp_path / 'x.zip'}")]
        except UserError:
            continue
        assert [name for name, _ in found] == list(images), (position, bit)
        for i, (_, pixels) in enumerate(found):
            np.testing.assert_array_equal(pixels, pixels_of(i, 2, 2))
        whole += 1
    assert 0 < whole < len(flips)


def test_no_flipped_bit_of_a_tar_loses_an_image_without_a_word(tmp_path):
    content = tar_of(("0.png", encoded(pixels_of(0, 2, 2))), ("1.png", encoded(pixels_of(1, 2, 2))))
    for position in [*range(0, 2048, 3), *range(2048, 4096, 50)]:
        (tmp_path / "x.tar").write_bytes(damage(content, position, position % 8))
        try:
            names = [name for name, _, _ in source_of(f"archive:{tmp_path / 'x.tar'}")]
        except UserError:
            continue
        assert names == ["0.png", "1.png"], position


def mutations(content, count):
    """Copies of `content` damaged in all ways: bits, bytes, what is cut, missing, repeated or put between."""
    rng = random.Random(0)
    for _ in range(count):
        damaged = bytearray(content)
        first, last, other = (rng.randrange(len(content)) for _ in range(3))
        first, last = min(first, last), max(first, last)
        match rng.randrange(6):
            case 0 | 1:
                for position in rng.sample(range(len(content)), rng.choice([1, 2, 5])):
                    damaged[position] ^= 1 << rng.randrange(8)
            case 2:
                damaged[first : first + 4] = rng.choice([b"\xff\xff\xff\xff", bytes(4), b"-999", rng.randbytes(4)])
            case 3:
                del damaged[first:last]
            case 4:
                damaged[other:other] = damaged[first:last]
            case 5:
                damaged[first:first] = rng.randbytes(rng.randrange(1, 600))
        yield bytes(damaged)


@pytest.mark.parametrize(
    "make", [write_zip, write_tar, *(functools.partial(write_tar, mode=f"w:{m}") for m in PACKERS)]
)
def test_damage_of_all_kinds_ends_in_one_line_that_names_the_file(tmp_path, make):
    files = {f"{'ab'[i % 2]}/{'x' * (i * 40)}{i}.png": encoded(pixels_of(i)) for i in range(4)}
    content = make(tmp_path / "whole", files).read_bytes()
    for damaged in mutations(content, 150):
        (tmp_path / "x").write_bytes(damaged)
        for skip_broken in (False, True):
            try:
                source = source_of(f"archive:{tmp_path / 'x'}", skip_broken=skip_broken)
                list(source)
            except UserError as error:
                assert "archive:x" in str(error) or str(tmp_path / "x") in str(error)
                assert "\n" not in str(error)
