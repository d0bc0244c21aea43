"""The store is written whole or not at all, verified when opened, and built once."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import resource
import signal

import numpy as np
import pytest

from tests.support.console import RecordingConsole
from tests.support.disk import contents
from tests.support.images import source_of, store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar
from tfpipeline.images import store as image_store
from tfpipeline.images.store import build_store, open_store
from tfpipeline.system.errors import Stopped, UserError

FILES = {f"{folder}/{i}.png": encoded(pixels_of(i % 6)) for i, folder in enumerate("abcabcabc")}


@pytest.fixture
def spec(tmp_path):
    return f"archive:{write_tar(tmp_path / 'images.tar', FILES)}"


class Interrupted:
    """A source that does something before its image `at`."""

    def __init__(self, source, at, action):
        self.source, self.at, self.action = source, at, action

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __iter__(self):
        for i, image in enumerate(self.source):
            if i == self.at:
                self.action()
            yield image


def test_a_store_holds_what_the_source_gave(tmp_path, spec):
    source, console = source_of(spec), RecordingConsole()
    store = build_store(source, tmp_path / "deep" / "store", console)
    for i, (name, pixels, truth) in enumerate(source):
        np.testing.assert_array_equal(store.images[i], pixels)
        assert (store.names[i], store.truth[i]) == (name, truth)
    assert len(store) == 9
    assert store.has_truth
    assert store.classes == [("a", "a"), ("b", "b"), ("c", "c")]
    assert (store.images.dtype, store.truth.dtype) == (np.uint8, np.int32)
    assert store.description["source"] == "archive:images.tar"
    assert store.description["shape"] == [5, 7, 3]
    assert store.fingerprint == hashlib.sha256((tmp_path / "deep" / "store" / "store.json").read_bytes()).hexdigest()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["store"]


def test_repeated_pixels_are_counted_and_told(tmp_path, spec):
    console = RecordingConsole()
    store = build_store(source_of(spec), tmp_path / "store", console)
    assert store.description["duplicates"] == 3
    assert console.lines == ["duplicates: 3 of 9 images have the pixels of an earlier one"]


def test_the_same_images_give_the_same_bytes(tmp_path, spec):
    build_store(source_of(spec), tmp_path / "one")
    build_store(source_of(spec), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_unknown_truth_is_minus_one(tmp_path):
    folder = write_folder(tmp_path / "flat", {"1.png": encoded(pixels_of(1))})
    store = build_store(source_of(f"folder:{folder}"), tmp_path / "store")
    assert store.truth.tolist() == [-1]
    assert not store.has_truth
    assert store.classes == []


def test_names_with_line_breaks_stay_one_line(tmp_path):
    folder = write_folder(tmp_path / "flat", {"a\nb.png": encoded(pixels_of(1)), "名前.png": encoded(pixels_of(2))})
    store = build_store(source_of(f"folder:{folder}"), tmp_path / "store")
    assert store.names == ["a\\nb.png", "名前.png"]


def test_images_of_two_sizes_are_refused_with_the_way_out(tmp_path):
    folder = write_folder(tmp_path / "flat", {"1.png": FILES["a/0.png"], "2.png": encoded(pixels_of(2, 9, 8))})
    with pytest.raises(UserError, match=r"image 2.png has 8 x 9 pixels, those before it 7 x 5; --size 5 resamples"):
        build_store(source_of(f"folder:{folder}"), tmp_path / "stores" / "store")
    assert list((tmp_path / "stores").iterdir()) == []
    store = build_store(source_of(f"folder:{folder}", size=5), tmp_path / "stores" / "store")
    assert store.images.shape == (2, 5, 5, 3)


def test_broken_images_are_refused_or_listed(tmp_path):
    folder = write_folder(tmp_path / "flat", {"1.png": FILES["a/0.png"], "2.png": b"", "3.png": b"no image"})
    with pytest.raises(
        UserError, match=r"image 2.png is empty; .* --skip-broken leaves such images out and lists them"
    ):
        build_store(source_of(f"folder:{folder}"), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    console = RecordingConsole()
    store = build_store(source_of(f"folder:{folder}", skip_broken=True), tmp_path / "store", console)
    assert store.names == ["1.png"]
    assert store.description["skipped"] == ["2.png", "3.png"]
    assert console.lines[0].startswith("2 broken images are left out")


def test_nothing_left_after_leaving_out_is_refused(tmp_path):
    folder = write_folder(tmp_path / "flat", {"1.png": b""})
    with pytest.raises(UserError, match="no image is left"):
        build_store(source_of(f"folder:{folder}", skip_broken=True), tmp_path / "store")


OWN_FILES = ("images.npy", "truth.npy", "names.txt", "classes.csv", "store.json")
FILES_BESIDE = ("digests.npy", "notes.txt")


@pytest.mark.parametrize("file", [*OWN_FILES, *FILES_BESIDE])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_named_and_the_cache_repairs_itself(tmp_path, file, damage):
    spec = f"archive:{write_tar(tmp_path / 'images.tar', FILES | {'README': b''})}"
    whole = store_of(spec, cache=tmp_path / "cache")
    before = contents(whole.directory)
    path = whole.directory / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    assert len(content) > 20
    {"flip": lambda: path.write_bytes(content), "cut": lambda: os.truncate(path, 20), "remove": path.unlink}[damage]()
    with pytest.raises(UserError, match=file):
        open_store(whole.directory)
    assert contents(store_of(spec, cache=tmp_path / "cache").directory) == before


@pytest.mark.slow
@pytest.mark.parametrize("is_old", [False, True])
def test_no_flipped_bit_of_the_description_is_taken_or_a_traceback(tmp_path, spec, is_old):
    """An old store has no hash of store.json: a flip may pass there, but never end in another error than its name."""
    directory = store_of(spec, cache=tmp_path / "cache").directory
    if is_old:
        for name in (*FILES_BESIDE, "store.sha256"):
            (directory / name).unlink()
    path = directory / "store.json"
    content = path.read_bytes()
    for position in range(len(content)):
        for bit in (0, 4, 6):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                opened = open_store(directory)
            except UserError as error:
                assert str(directory) in str(error)
            else:
                assert is_old
                assert len(opened) == 9
    path.write_bytes(content)
    assert len(open_store(directory)) == 9


def test_no_flipped_bit_of_the_seal_is_taken(tmp_path, spec):
    directory = store_of(spec, cache=tmp_path / "cache").directory
    path = directory / "store.sha256"
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=re.escape(str(directory))):
            open_store(directory)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b'{"format": 1}', b"[" * 100_000, b"\xff", b'{"format": 1, "files": []}'],
)
def test_a_description_that_is_none_is_damage_and_the_cache_repairs_itself(tmp_path, spec, content):
    store = store_of(spec, cache=tmp_path / "cache")
    (store.directory / "store.json").write_bytes(content)
    with pytest.raises(UserError, match=r"store.json is damaged or missing"):
        open_store(store.directory)
    assert store_of(spec, cache=tmp_path / "cache").fingerprint == store.fingerprint


def test_an_old_store_is_the_same_store(tmp_path, spec):
    store = build_store(source_of(spec), tmp_path / "store")
    new = sorted(set(contents(store.directory)) - set(OWN_FILES))
    assert new == ["digests.npy", "notes.txt", "store.sha256"]
    for name in new:
        (store.directory / name).unlink()
    old = open_store(store.directory)
    assert old.fingerprint == store.fingerprint
    np.testing.assert_array_equal(old.digests, store.digests)
    assert old.notes == ()


def test_the_description_of_unchanged_images_is_that_of_every_version(tmp_path):
    """Labels and runs know their images by the hash of store.json; what is beside the images is no part of it."""
    spec = f"archive:{write_tar(tmp_path / 'images.tar', FILES | {'README': b'', '.hidden.png': b''})}"
    store = build_store(source_of(spec), tmp_path / "store")
    assert list(store.description) == [
        *("format", "source", "split", "version", "count", "shape", "duplicates", "skipped", "files"),
    ]
    assert store.fingerprint == "3376f66a6536c132fa13204dce6918c338e264f4403a36a191f8726e2d3158eb"


def test_what_was_said_of_the_source_is_said_again_when_the_cache_is_used(tmp_path):
    files = FILES | {"@eaDir/1.png": FILES["a/0.png"], "notes.txt": b""}
    spec, notes = f"archive:{write_tar(tmp_path / 'images.tar', files)}", []
    for _ in range(2):
        console = RecordingConsole()
        store = store_of(spec, console=console, cache=tmp_path / "cache")
        notes.append([line for line in console.lines if "left out" in line])
    assert notes[0] == notes[1] == list(store.notes)
    assert notes[0] == ["archive:images.tar: files left out: 2 (1 made by systems, 1 not named like images)"]


def test_images_found_are_those_kept_and_those_skipped(tmp_path):
    folder = write_folder(tmp_path / "flat", {"1.png": FILES["a/0.png"], "2.png": b"", "3.png": b"no image"})
    store = build_store(source_of(f"folder:{folder}", skip_broken=True), tmp_path / "store")
    assert store.counts == {"found": 3, "skipped": 2}
    assert store.counts["found"] == len(store) + store.counts["skipped"]


def test_other_pixels_under_the_old_size_and_time_are_seen(tmp_path):
    path = write_folder(tmp_path / "x", {"1.bmp": encoded(pixels_of(1), "BMP")}) / "1.bmp"
    before, status = store_of(f"folder:{path.parent}", cache=tmp_path / "cache"), path.stat()
    path.write_bytes(encoded(pixels_of(2), "BMP"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = store_of(f"folder:{path.parent}", cache=tmp_path / "cache")
    np.testing.assert_array_equal(after.images[0], pixels_of(2))
    assert before.fingerprint != after.fingerprint


def test_without_a_home_the_cache_must_be_named(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TFPIPELINE_CACHE", raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(UserError, match=r"no home directory .*give --cache DIR or set TFPIPELINE_CACHE"):
        store_of("shapes", limit=1)
    assert len(store_of("shapes", limit=1, cache=tmp_path)) == 1


def test_the_cache_is_used_until_the_images_the_truth_or_the_options_change(tmp_path, spec, monkeypatch):
    cache = tmp_path / "cache"
    first = store_of(spec, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(image_store, "build_store", lambda *_: pytest.fail("built again"))
        assert store_of(spec, cache=cache).fingerprint == first.fingerprint
    assert len(store_of(spec, cache=cache, limit=4)) == 4
    assert store_of(spec, cache=cache, size=4).images.shape == (9, 4, 4, 3)
    rows = "".join(f"{name},n{i},{i}\n" for i, name in enumerate(FILES))
    (tmp_path / "truth.csv").write_text("file,wnid,class_index\n" + rows)
    assert len(store_of(spec, cache=cache, truth=tmp_path / "truth.csv").classes) == 9
    write_tar(tmp_path / "images.tar", FILES | {"a/9.png": encoded(pixels_of(9))})
    assert len(store_of(spec, cache=cache)) == 10
    assert len(list(cache.iterdir())) == 5


def test_the_cache_sees_changes_behind_links_between_folders(tmp_path):
    write_folder(tmp_path / "elsewhere", {"1.png": encoded(pixels_of(1))})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "elsewhere")
    spec, cache = f"folder:{tmp_path / 'images'}", tmp_path / "cache"
    assert len(store_of(spec, cache=cache)) == 1
    write_folder(tmp_path / "elsewhere", {"2.png": encoded(pixels_of(2))})
    assert len(store_of(spec, cache=cache)) == 2


def test_the_default_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "here"))
    assert store_of("shapes", limit=1).directory.parent == tmp_path / "here"


@pytest.mark.parametrize("at", [0, 4, 8])
def test_sigterm_leaves_nothing(tmp_path, spec, at):
    source = Interrupted(source_of(spec), at, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        build_store(source, tmp_path / "stores" / "store")
    assert list((tmp_path / "stores").iterdir()) == []


def build_and_die(spec, directory, at):
    build_store(Interrupted(source_of(spec), at, lambda: os.kill(os.getpid(), signal.SIGKILL)), directory)


@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_killed_build_is_not_taken_for_whole_and_goes_away(tmp_path, spec, at):
    directory = tmp_path / "stores" / "store"
    process = multiprocessing.get_context("spawn").Process(target=build_and_die, args=(spec, directory, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name.startswith(".store.") for path in directory.parent.iterdir()] == [True]
    with pytest.raises(UserError, match="no image store"):
        open_store(directory)
    assert len(build_store(source_of(spec), directory)) == 9
    assert list(directory.parent.iterdir()) == [directory]


def build_on_a_full_disk(spec, directory, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
    try:
        build_store(source_of(spec), directory)
    except OSError as error:
        queue.put(error.errno)


def test_a_full_disk_leaves_nothing(tmp_path, spec):
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=build_on_a_full_disk, args=(spec, tmp_path / "stores" / "store", queue))
    process.start()
    process.join()
    assert queue.get() == errno.EFBIG  # What a file-size limit answers where a disk answers ENOSPC.
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize("at", [0, 4, 8])
def test_two_builds_at_once_do_no_harm(tmp_path, spec, at):
    directory = tmp_path / "stores" / "store"
    inner = []
    source = Interrupted(source_of(spec), at, lambda: inner.append(build_store(source_of(spec), directory)))
    outer = build_store(source, directory)
    assert outer.fingerprint == inner[0].fingerprint
    assert list(directory.parent.iterdir()) == [directory]


def open_at_once(spec, cache, barrier, queue):
    barrier.wait()
    queue.put(store_of(spec, cache=cache).fingerprint)


@pytest.mark.slow
def test_commands_at_once_over_a_damaged_store_all_end_well(tmp_path, spec):
    whole = store_of(spec, cache=tmp_path / "cache")
    (whole.directory / "images.npy").write_bytes(b"damaged")
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(4), context.SimpleQueue()
    arguments = (spec, tmp_path / "cache", barrier, queue)
    processes = [context.Process(target=open_at_once, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert {queue.get() for _ in processes} == {whole.fingerprint}
    assert list((tmp_path / "cache").iterdir()) == [whole.directory]


def test_another_store_is_not_replaced(tmp_path, spec):
    first = build_store(source_of(spec), tmp_path / "store")
    with pytest.raises(UserError, match="holds another image store"):
        build_store(source_of(spec, limit=2), tmp_path / "store")
    assert len(open_store(tmp_path / "store")) == len(first)


def test_a_store_of_another_format_is_refused(tmp_path, spec):
    directory = build_store(source_of(spec), tmp_path / "store").directory
    description = json.loads((directory / "store.json").read_text()) | {"format": 2}
    (directory / "store.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="has format 2, this program reads 1"):
        open_store(directory)


def write_over(path, position, content):
    """Other bytes in a file, under the old size and time of writing."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


READS = {
    "one": lambda images: images[2],
    "some": lambda images: images[np.array([0, 2])],
    "a slice": lambda images: images[1:4],
    "all": np.asarray,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_pixels_damaged_after_the_store_was_opened_are_never_read(tmp_path, spec, read):
    store = build_store(source_of(spec), tmp_path / "store")
    path, whole = store.directory / "images.npy", read(store.images)
    write_over(path, path.stat().st_size - 1, b"\0")
    with pytest.raises(UserError, match=r"images\.npy was changed while it was in use, and is damaged; .* run the s"):
        read(store.images)
    write_over(path, path.stat().st_size - 1, pixels_of(8 % 6)[-1, -1, -1:].tobytes())
    np.testing.assert_array_equal(read(store.images), whole)


def test_what_was_read_stays_as_it_was(tmp_path, spec):
    store = build_store(source_of(spec), tmp_path / "store")
    taken = [store.images[1], store.images[0:3], store.images[np.array([1])]]
    copies = [pixels.copy() for pixels in taken]
    path = store.directory / "images.npy"
    write_over(path, 128, bytes(path.stat().st_size - 128))
    for pixels, copy in zip(taken, copies, strict=True):
        np.testing.assert_array_equal(pixels, copy)


def test_a_store_that_is_removed_or_cut_while_it_is_open(tmp_path, spec):
    store = build_store(source_of(spec), tmp_path / "store")
    path, whole = store.directory / "images.npy", np.asarray(store.images)
    path.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(store.images, whole)
    os.truncate(tmp_path / "elsewhere", 200)
    with pytest.raises(UserError, match=r"images\.npy was changed while it was in use"):
        store.images[0]


def test_several_that_find_the_cached_store_damaged_repair_it_once(tmp_path, spec):
    cache = tmp_path / "cache"
    whole = store_of(spec, cache=cache)
    before = contents(whole.directory)
    write_over(whole.directory / "images.npy", 300, b"\xff\x00\xff")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(fingerprint_of, [(spec, cache)] * 2)
    assert found == [whole.fingerprint] * 2
    assert contents(whole.directory) == before
    assert [path.name for path in cache.iterdir()] == [whole.directory.name]


def fingerprint_of(spec, cache):
    return store_of(spec, cache=cache).fingerprint


def test_a_damaged_store_with_a_stranger_in_it_is_named(tmp_path, spec):
    store = store_of(spec, cache=tmp_path / "cache")
    (store.directory / "truth.npy").unlink()
    (store.directory / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds mine\.txt, which is no file of an image store; move it elsewhere"):
        store_of(spec, cache=tmp_path / "cache")
    assert (store.directory / "mine.txt").read_text() == "mine"
