"""Hostile and odd archives and folders: nothing is extracted, followed or run; each oddity is refused by name."""

import functools
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tfpipeline.images import listing
from tfpipeline.system.errors import UserError

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


NAMES = {
    "日本語/画像.png": "日本語/画像.png",
    "العربية.png": "العربية.png",
    "émoji 🐟.png": "émoji 🐟.png",
    "line\nbreak.png": "line\\nbreak.png",
    "tab\t.png": "tab\\t.png",
    "separator\u2028.png": "separator\\u2028.png",
    "back\\slash.png": "back\\\\slash.png",
    "x" * 200 + "/" + "y" * 200 + ".png": "x" * 200 + "/" + "y" * 200 + ".png",
    "'; DROP TABLE.png": "'; DROP TABLE.png",
    "$(touch x).png": "$(touch x).png",
    "%s{0}.png": "%s{0}.png",
}


@pytest.mark.parametrize("make", [write_folder, write_tar, write_zip])
@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_become_one_line(tmp_path, make, name):
    place = make(tmp_path / "x", {name: GOOD})
    kind = "folder" if make is write_folder else "archive"
    ((found, _, _),) = source_of(f"{kind}:{place}")
    # In a zip, a backslash stands between folders.
    assert found == ("back/slash.png" if make is write_zip and "\\" in name else NAMES[name])


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of(("caf\udce9.png", GOOD)))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(GOOD)
    for spec in (f"archive:{tmp_path / 'x.tar'}", f"folder:{folder}"):
        assert [name for name, _, _ in source_of(spec)] == ["caf\\udce9.png"]


def test_pipes_and_dead_links_in_folders_are_refused_and_links_to_files_are_read(tmp_path):
    folder = write_folder(tmp_path / "x", {"good.png": GOOD})
    (folder / "link.png").symlink_to(folder / "good.png")
    assert [name for name, _, _ in source_of(f"folder:{folder}")] == ["good.png", "link.png"]
    os.mkfifo(folder / "pipe.png")
    (folder / "dead.png").symlink_to(folder / "nothing")
    with pytest.raises(UserError, match=r"image dead.png cannot be read \(No such file"):
        list(source_of(f"folder:{folder}"))
    source = source_of(f"folder:{folder}", skip_broken=True)
    assert [name for name, _, _ in source] == ["good.png", "link.png"]
    assert dict(source.left_out)["pipe.png"] == "is no regular file"


def test_links_between_folders_are_followed_but_not_in_circles(tmp_path):
    write_folder(tmp_path / "elsewhere", {"2.png": OTHER})
    folder = write_folder(tmp_path / "x", {"a/1.png": GOOD})
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    assert [name for name, _, _ in source_of(f"folder:{folder}")] == ["a/1.png", "b/2.png"]
    (folder / "a" / "up").symlink_to(folder)
    with pytest.raises(UserError, match="is a link to a folder that contains it; remove the link"):
        list(source_of(f"folder:{folder}"))


def test_no_images_at_all_are_refused(tmp_path):
    for spec in (
        f"folder:{write_folder(tmp_path / 'x', {'a.txt': b''})}",
        f"archive:{write_tar(tmp_path / 'x.tar', {})}",
    ):
        with pytest.raises(UserError, match=r"holds no images: no file in it has a name like \*.png"):
            list(source_of(spec))
