"""What may happen to checkpoints: killed processes, lost power, full disks, flipped bits, hostile files."""

import hashlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tests.support.checkpoints import assert_is, save
from tests.support.disk import small_disk
from tests.support.repository import ROOT
from tfpipeline.system import files as durable
from tfpipeline.system.errors import UserError
from tfpipeline.training import checkpoint


@pytest.fixture
def three(tmp_path):
    return [save(tmp_path, step) for step in (1, 2, 3)]


@pytest.mark.slow
def test_a_kill_before_or_after_any_system_call_of_a_commit_loses_nothing(tmp_path):
    command = [sys.executable, "-m", "tests.support.killed_commits", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace is not permitted" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30  # A commit has at least some fifteen system calls, each with two stops.


@pytest.mark.parametrize("damage", ["empty", "half", "one byte short", "gone"])
@pytest.mark.parametrize("newest", [1, 2])
def test_the_newest_ones_damaged_or_gone_fall_back_and_are_named(three, damage, newest):
    for path in three[-newest:]:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2]}.get(damage, content[:-1]))
        if damage == "gone":
            path.unlink()
    lines = []
    assert_is(checkpoint.load_newest(three[0].parent, lines.append), 3 - newest)
    named = [] if damage == "gone" else [str(path) for path in reversed(three[-newest:])]
    assert [line.split(": ")[0].split(" checkpoint ")[1] for line in lines] == named


def test_two_hundred_flipped_bits_are_all_noticed(three):
    random = np.random.default_rng(0)
    contents = [path.read_bytes() for path in three]
    for _ in range(200):
        number = int(random.integers(3))
        damaged = bytearray(contents[number])
        damaged[random.integers(len(damaged))] ^= 1 << int(random.integers(8))
        three[number].write_bytes(damaged)
        with pytest.raises(checkpoint.DamagedCheckpoint, match="do not have the hash in its name"):
            checkpoint.load(three[number])
        assert_is(checkpoint.load_newest(three[0].parent), 2 if number == 2 else 3)
        three[number].write_bytes(contents[number])


def test_all_damaged_is_refused_with_a_list_and_nothing_is_deleted(three):
    for path in three:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged: ") as refusal:
        checkpoint.load_newest(three[0].parent)
    assert all(path.name in str(refusal.value) and path.exists() for path in three)
    checkpoint.prune(three[0].parent)
    assert all(path.exists() for path in three)


def test_a_full_disk_leaves_the_earlier_checkpoints_and_says_so(tmp_path):
    with small_disk(tmp_path, "64k"):
        save(tmp_path, 1)
        with pytest.raises(UserError, match=r"cannot save .*step-0+2-.*No space left on device; the earlier"):
            checkpoint.save(tmp_path, 2, {"x": np.zeros(100_000)}, {})
        assert_is(checkpoint.load_newest(tmp_path), 1)
        assert len(list(tmp_path.iterdir())) == 1
        save(tmp_path, 2)


class ForgetfulDisk:
    """Follows what a directory would hold after a power cut: what was fsynced, and names with or without their sync.

    A file's content is what its last fsync saw; a name is sure once its directory was synced.
    """

    def __init__(self, directory, monkeypatch):
        self.directory, self.contents, self.names, self.possible = directory, {}, {}, []
        self.sync_everything()
        for owner, name in ((os, "fsync"), (pathlib.Path, "rename"), (pathlib.Path, "unlink")):
            monkeypatch.setattr(owner, name, self.followed(getattr(owner, name)))

    def sync_everything(self):
        self.names = {path.name: path.stat().st_ino for path in self.directory.iterdir()}
        self.contents = {path.stat().st_ino: path.read_bytes() for path in self.directory.iterdir()}

    def followed(self, call):
        def following(target, *arguments, **options):
            self.remember_power_cut()
            result = call(target, *arguments, **options)
            if call.__name__ == "fsync":
                path = pathlib.Path(f"/proc/self/fd/{target}").readlink()
                if path == self.directory:
                    self.names = {path.name: path.stat().st_ino for path in self.directory.iterdir()}
                else:
                    self.contents[path.stat().st_ino] = path.read_bytes()
            self.remember_power_cut()
            return result

        return following

    def remember_power_cut(self):
        live = {path.name: path.stat().st_ino for path in self.directory.iterdir()}
        for names in (self.names, live):
            self.possible.append({name: self.contents.get(inode, b"") for name, inode in names.items()})


def test_what_was_not_synced_may_be_lost(tmp_path, monkeypatch):
    live = tmp_path / "live"
    save(live, 1), save(live, 2)
    with monkeypatch.context() as patch:
        disk = ForgetfulDisk(live, patch)
        save(live, 3)
        after_save = len(disk.possible)
        checkpoint.prune(live, keep=2)
    assert len(disk.possible) > 10
    for number, files in enumerate(disk.possible):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        newest = checkpoint.load_newest(directory)
        assert_is(newest, newest.step)
        assert newest.step == 3 if number >= after_save else newest.step in (2, 3)


def test_the_model_of_lost_writes_notices_a_missing_sync(tmp_path, monkeypatch):
    live = tmp_path / "live"
    save(live, 1)
    with monkeypatch.context() as patch:
        disk = ForgetfulDisk(live, patch)
        patch.setattr(durable, "sync_directory", lambda directory: None)
        save(live, 2)
    assert "step-000000002" not in "".join(disk.names)


def test_clocks_and_modification_times_do_not_matter(three):
    for path, seconds in zip(three, (2_000_000_000, 0, -1_000_000), strict=True):
        os.utime(path, (seconds, seconds))
    assert_is(checkpoint.load_newest(three[0].parent), 3)
    checkpoint.prune(three[0].parent, keep=1)
    assert checkpoint.newest_first(three[0].parent) == three[2:]


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.write_text, (self.path, "executed")


def test_a_hostile_checkpoint_is_refused_and_executes_nothing(three, tmp_path):
    target = tmp_path / "executed"
    hostile = tmp_path / "hostile.npz"
    np.savez(hostile, x=np.array([Hostile(target)], object), allow_pickle=True)
    digest = hashlib.sha256(hostile.read_bytes()).hexdigest()[:16]
    hostile = hostile.rename(tmp_path / f"step-000000009-{digest}.npz")
    lines = []
    assert_is(checkpoint.load_newest(tmp_path, lines.append), 3)
    assert len(lines) == 1 and str(hostile) in lines[0]
    assert not target.exists()
    pickle.loads(pickle.dumps(Hostile(target)))  # It would have worked.
    assert target.exists()


def test_a_renamed_checkpoint_is_not_taken_for_another_step(three):
    renamed = three[0].rename(three[0].with_name(three[0].name.replace("000000001", "000000007")))
    with pytest.raises(checkpoint.DamagedCheckpoint, match="it holds step 1"):
        checkpoint.load(renamed)


def archive_of(header, pack=zipfile.ZIP_STORED, **parts):
    """The bytes of an archive like a checkpoint's, with these bytes for a header and these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", pack) as archive:
        with archive.open("checkpoint.json.npy", "w") as stream:
            np.lib.format.write_array(stream, np.frombuffer(header, np.uint8))
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy_of_shape(shape):
    """The start of an array that says it has this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


GOOD = {"format": 1, "step": 9, "config": {}, "state": {}, "dtypes": {}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        archive_of(b"[" * 100_000),
        archive_of(b"[1, 2]"),
        archive_of(json.dumps({**GOOD, "state": [1]}).encode()),
        archive_of(json.dumps({**GOOD, "dtypes": {"x": "__doc__"}}).encode(), x=npy_of_shape((0,))),
        archive_of(json.dumps({**GOOD, "dtypes": [1]}).encode()),
        archive_of(json.dumps(GOOD).encode(), x=npy_of_shape((1 << 60,))),
        archive_of(json.dumps(GOOD).encode(), x=npy_of_shape((-3, 5))),
        archive_of(json.dumps(GOOD).encode(), zipfile.ZIP_DEFLATED),
    ],
)
def test_hostile_content_under_a_right_hash_is_passed_over(three, content):
    path = three[0].with_name(f"step-000000009-{hashlib.sha256(content).hexdigest()[:16]}.npz")
    path.write_bytes(content)
    lines = []
    assert_is(checkpoint.load_newest(path.parent, lines.append), 3)
    assert len(lines) == 1 and lines[0].startswith(f"passing over the damaged checkpoint {path}: ")


def test_a_directory_in_the_place_of_a_checkpoint_is_passed_over(three):
    three[2].unlink()
    three[2].mkdir()
    lines = []
    assert_is(checkpoint.load_newest(three[0].parent, lines.append), 2)
    assert lines == [f"passing over the damaged checkpoint {three[2]}: it cannot be read: Is a directory"]
    assert checkpoint.prune(three[0].parent, keep=1) == [three[2]]
    assert checkpoint.newest_first(three[0].parent) == [three[2], three[1]]
