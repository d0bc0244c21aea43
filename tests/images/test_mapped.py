"""A file that was verified within a day and did not change since is not read for it again."""

import json
import os
import time

import numpy as np
import pytest

from tfpipeline.images import mapped
from tfpipeline.images.mapped import SECONDS_VERIFIED, VERIFIED, MappedImages
from tfpipeline.system import UserError, sha256_of_file

PIXELS = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)


class Counted(MappedImages):
    verifications = 0

    def _is_whole(self):
        Counted.verifications += 1
        return super()._is_whole()


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A function that opens the images and returns how often they were read for it; their file counts as old enough."""
    monkeypatch.setattr(mapped, "_COARSEST", -100.0)
    path = tmp_path / "images.npy"
    np.save(path, PIXELS)
    sha256 = sha256_of_file(path)

    def open_images():
        Counted.verifications = 0
        np.testing.assert_array_equal(Counted(path, sha256)[:], PIXELS)
        return Counted.verifications

    return open_images


def test_the_second_start_does_not_read_the_images(opened):
    assert [opened() for _ in range(3)] == [1, 0, 0]


def test_a_young_file_is_verified_at_each_start(opened, monkeypatch):
    monkeypatch.setattr(mapped, "_COARSEST", 3600.0)
    assert [opened(), opened()] == [1, 1]


@pytest.mark.parametrize("seconds", [SECONDS_VERIFIED + 1, -10])
def test_a_day_later_or_earlier_it_is_verified_again(opened, monkeypatch, seconds):
    now = time.time
    assert opened() == 1
    monkeypatch.setattr(mapped.time, "time", lambda: now() + seconds)
    assert [opened(), opened()] == [1, 0]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"file": 3}', '{"file": [], "time": "x"}'])
def test_a_record_that_is_none_counts_for_nothing(opened, tmp_path, content):
    opened()
    said = json.loads((tmp_path / VERIFIED).read_text())
    (tmp_path / VERIFIED).write_text(content)
    assert opened() == 1
    (tmp_path / VERIFIED).write_text(json.dumps({**said, "file": ["0" * 64, *said["file"][1:]]}))
    assert opened() == 1


def test_a_change_shows_under_the_old_time_and_in_a_copy(opened, tmp_path):
    opened()
    path = tmp_path / "images.npy"
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="is damaged or missing"):
        opened()
    (tmp_path / "copy").write_bytes(content)
    os.utime(tmp_path / "copy", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "copy").replace(path)
    assert [opened(), opened()] == [1, 0]


def test_where_nothing_can_be_written_it_is_verified_each_time(opened, tmp_path):
    (tmp_path / VERIFIED).mkdir()
    assert [opened(), opened()] == [1, 1]
