"""What jobs.cache lists and removes: image stores that nobody uses, and nothing else."""

import os
import time

import pytest

from jobs import cache as job
from jobs import command
from tests.support.images import store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tests.support.processes import Child
from tfpipeline.images.cache import list_stores
from tfpipeline.images.store import lock_store
from tfpipeline.system import FlagError, write_file

DAY = 86_400


def run(*argv):
    return job.run(command.parse(job.Config, list(map(str, argv)), "cache", ""))


@pytest.fixture
def cache(tmp_path):
    """Two stores, of the images before and after one of them changed: opened 40 and 0 days ago."""
    folder = write_folder(tmp_path / "photos", {f"{i}.png": encoded(pixels_of(i)) for i in range(3)})
    old = store_of(f"folder:{folder}", cache=tmp_path / "cache").directory
    (folder / "1.png").write_bytes(encoded(pixels_of(7)))
    store_of(f"folder:{folder}", cache=tmp_path / "cache")
    os.utime(old, (time.time() - 40 * DAY,) * 2)
    return tmp_path / "cache"


def test_stores_are_listed_with_source_size_age_and_use(cache, capsys):
    figures = run("--cache", cache, "--list")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "folder:photos, split train (folder-photos-train-" in lines[1]
    assert lines[1].split()[-6:] == ["40", "days", "ago", "not", "in", "use"] and lines[2].split()[-6] == "0"
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert figures == {"stores": 2, "bytes": size, "removed": 0, "removed_bytes": 0, "cache": str(cache)}
    assert figures == run("--cache", cache)


def test_stores_that_were_not_opened_for_some_time_are_removed(cache, capsys):
    old, new = list_stores(cache)
    assert run("--cache", cache, "--prune", "--days", 41)["removed"] == 0
    figures = run("--cache", cache, "--prune")
    assert (figures["stores"], figures["removed"], figures["removed_bytes"]) == (1, 1, old.size)
    assert [path.name for path in cache.iterdir()] == [new.directory.name]
    assert capsys.readouterr().out.splitlines()[-2].endswith("removed")
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 1
    assert list(cache.iterdir()) == []


def test_opening_a_store_makes_it_young_again(cache, tmp_path):
    store_of(f"folder:{tmp_path / 'photos'}", cache=cache)
    newest = list_stores(cache)[-1].directory
    os.utime(newest, (0, 0))
    assert list_stores(cache)[0].directory == newest
    store_of(f"folder:{tmp_path / 'photos'}", cache=cache)
    assert list_stores(cache)[-1].directory == newest


def test_a_store_that_is_open_stays(cache, tmp_path):
    store = store_of(f"folder:{tmp_path / 'photos'}", cache=cache)
    assert [found.in_use for found in list_stores(cache)] == [False, True]
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 1
    assert store.directory.is_dir()
    part = store.images
    del store
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 0
    del part
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 1


def hold_open(spec, cache, mark):
    store = store_of(spec, cache=cache)
    write_file(mark, str(len(store)).encode())
    while True:
        time.sleep(60)


@pytest.mark.slow
def test_a_store_that_another_process_has_open_stays_until_that_is_gone(cache, tmp_path):
    child = Child(tmp_path / "said", hold_open, f"folder:{tmp_path / 'photos'}", cache, tmp_path / "mark")
    while not (tmp_path / "mark").exists():
        assert not child.ended(0.002), child.said()
    figures = run("--cache", cache, "--prune", "--days", 0)
    assert (figures["removed"], figures["stores"]) == (1, 1)
    child.kill()
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 1


def test_whatever_is_no_store_stays(cache, tmp_path):
    old = list_stores(cache)[0].directory
    (old / "mine.txt").write_text("mine")
    names = "photos-0123456789abcdef", "other", "empty-0123456789abcdef"
    for name in names:
        (cache / name).mkdir()
    (cache / names[0] / "images.npy").write_text("mine")
    (cache / "linked-0123456789abcdef").symlink_to(write_folder(tmp_path / "elsewhere", {"store.json": b"{}"}))
    (cache / "runtime-choice.json").write_text("{}")
    assert run("--cache", cache, "--prune", "--days", 0)["removed"] == 1
    left = {path.name for path in cache.iterdir()}
    assert left == {old.name, *names, "linked-0123456789abcdef", "runtime-choice.json"}
    assert (old / "images.npy").exists() and (tmp_path / "elsewhere" / "store.json").exists()


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_what_a_killed_removal_left_is_removed(cache, kept):
    """The files that tell what it is go last."""
    store = list_stores(cache)[0].directory
    order = ["images.npy", "truth.npy", "names.txt", "classes.csv", "digests.npy", "notes.txt", "store.json"]
    for name in order[: len(order) - kept]:
        (store / name).unlink()
    found = next(one for one in list_stores(cache) if one.directory == store)
    assert (found.source is None) == (kept == 0)
    os.utime(store, (0, 0))
    assert run("--cache", cache, "--prune")["removed"] == 1
    assert not store.exists()


def test_locks_that_killed_processes_left_are_removed_and_those_that_are_held_stay(cache):
    left, held, other = (cache / f".{name}.lock" for name in ("a-0123456789abcdef", "b-0123456789abcdef", "mine"))
    left.touch(), other.touch()
    with lock_store(cache / held.name[1:-5]):
        run("--cache", cache, "--list")
        assert left.exists()
        run("--cache", cache, "--prune")
        assert not left.exists() and held.exists() and other.exists()


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    assert run("--cache", tmp_path / "none", "--prune")["stores"] == 0
    with pytest.raises(FlagError, match="--list and --prune do not go together; give one of them"):
        run("--list", "--prune")
