"""Folders and archives with all that lies among images: names in any script, links, pipes, what systems leave there."""

import os
import pathlib
import subprocess

import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar, write_zip
from tfpipeline.system.errors import UserError

GOOD = encoded(pixels_of(0))
OTHER = encoded(pixels_of(1))


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
    write_tar(tmp_path / "x.tar", {"caf\udce9.png": GOOD})
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


OF_SYSTEMS = (
    *("cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/x/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/S-1-5/$R1.jpg"),
    *(
        "$Recycle.Bin/1.png",
        "System Volume Information/1.png",
        "lost+found/#12.png",
        "LOST.DIR/7.png",
        "FOUND.000/1.png",
    ),
    *("#recycle/1.png", "@Recycle/1.png", "dog/#snapshot/1.png", "__MACOSX/cat/1.png", "cat/Thumbs.db", "desktop.ini"),
    *("Network Trash Folder/1.png", "Temporary Items/1.png", "RECYCLER/1.png"),
)
HIDDEN = (".Trash/1.png", ".Trash-1000/files/1.png", "cat/._1.png", ".thumbnails/1.png", "dog/.DS_Store", ".hidden.png")
OTHERS = ("README.txt", "cat/labels.csv", "weights.h5", "cloud.pcd", "paper.pdf", "clip.mpg", "raw.nef", "no suffix")
CLASSES_LIKE_SYSTEMS = (
    "recycled/1.png",
    "lost and found/1.png",
    "desktop/1.png",
    "temporary/1.png",
    "Recycle Bin/1.png",
)


@pytest.mark.parametrize("make", [write_folder, write_tar, write_zip])
def test_what_systems_make_is_no_image_and_is_counted(tmp_path, make):
    files = dict.fromkeys(("cat/1.jpg", "dog/1.jpg", *OF_SYSTEMS, *HIDDEN, *OTHERS), GOOD)
    place = make(tmp_path / "x", files)
    source = source_of(f"{'folder' if make is write_folder else 'archive'}:{place}")
    assert [name for name, _, _ in source] == ["cat/1.jpg", "dog/1.jpg"]
    assert source.classes == (("cat", "cat"), ("dog", "dog"))
    (note,) = source.notes
    assert note.endswith(
        f": files left out: {len(OF_SYSTEMS + HIDDEN + OTHERS)} ({len(HIDDEN)} hidden,"
        f" {len(OF_SYSTEMS)} made by systems, {len(OTHERS)} not named like images)"
    )


@pytest.mark.parametrize("make", [write_folder, write_tar, write_zip])
def test_classes_may_be_called_nearly_like_what_systems_make(tmp_path, make):
    place = make(tmp_path / "x", dict.fromkeys(CLASSES_LIKE_SYSTEMS, GOOD))
    source = source_of(f"{'folder' if make is write_folder else 'archive'}:{place}")
    assert [name for name, _, _ in source] == sorted(CLASSES_LIKE_SYSTEMS)
    assert source.notes == []


def test_archives_in_a_folder_are_left_out_with_the_way_to_read_them(tmp_path):
    folder = write_folder(tmp_path / "x", {"1.png": GOOD, "more.tar.gz": b"", "others.zip": b""})
    source = source_of(f"folder:{folder}")
    assert len(list(source)) == 1
    assert source.notes == ["folder:x: files left out: 2 (2 archives, which --images archive:FILE reads)"]


def test_where_nothing_is_an_image_it_is_said_what_there_is(tmp_path):
    place = write_tar(tmp_path / "x.tar", {"a.txt": b"", "b.nef": b"", ".c.png": b""})
    with pytest.raises(UserError, match=r"no images: .*; files left out: 3 \(1 hidden, 2 not named like images\)"):
        list(source_of(f"archive:{place}"))


def test_a_folder_that_cannot_be_opened_is_refused_by_name_but_for_those_of_systems(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "x", {"1.png": GOOD, "closed/2.png": GOOD, "lost+found/3.png": GOOD})
    whole = pathlib.Path.iterdir

    def iterdir(path):
        if path.name in ("closed", "lost+found"):
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", iterdir)
    with pytest.raises(UserError, match=r"image closed/ is a folder that cannot be opened \(Permission denied\)"):
        list(source_of(f"folder:{folder}"))
    source = source_of(f"folder:{folder}", skip_broken=True)
    assert [name for name, _, _ in source] == ["1.png"]
    assert source.skipped == ["closed/"]
    assert source.notes == ["folder:x: files left out: 1 (1 made by systems)"]


@pytest.mark.slow
def test_folders_1200_levels_deep_are_read_or_refused_in_one_line(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("down", dir_fd=here)
        below = os.open("down", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    write_folder(tmp_path, {"1.png": GOOD})
    source = source_of(f"folder:{tmp_path}", skip_broken=True)
    assert [name for name, _, _ in source] == ["1.png"]
    with pytest.raises(UserError, match=r"down/ is a folder that cannot be opened \(File name too long\)") as refusal:
        list(source_of(f"folder:{tmp_path}"))
    assert len(str(refusal.value)) < 1000
    os.close(here)
    subprocess.run(["rm", "-r", tmp_path / "down"], check=True)  # Python's own would need as many frames.


def test_a_link_to_itself_is_refused_by_name(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(UserError, match=r"image loop.png cannot be read \(Too many levels of symbolic links\)"):
        list(source_of(f"folder:{tmp_path}"))
