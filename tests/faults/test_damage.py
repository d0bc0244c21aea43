"""Bits that flip in the files of a finished run, its images, labels and teachers; pixels that change while in use."""

import os

import pytest

from benchmarks import flipped_bits
from jobs import command, train
from tests.support.jobs import FLAGS, argv_of
from tfpipeline.system import UserError
from tfpipeline.training.run_directory import newest_step
from tfpipeline.training.saver import Saver

pytestmark = pytest.mark.slow

FLIPS = 1000


@pytest.mark.long
def test_a_thousand_flipped_bits_change_nothing_or_are_named(tmp_path):
    found = flipped_bits.sweep(flipped_bits.build_world(tmp_path), FLIPS)
    assert sum(counts["flips"] for counts in found.values()) >= FLIPS
    for counts in found.values():
        assert counts["same"] + counts["named"] == counts["flips"] > 0
    for name in ("model.keras", "checkpoint", "image store", "label store", "teacher .keras"):
        assert found[name]["same"] == 0


def run(argv):
    return train.run(command.parse(train.Config, argv, "train", ""))


def test_pixels_damaged_while_a_training_reads_them_are_not_learned(tmp_path, monkeypatch):
    whole = run(argv_of(tmp_path / "cache", tmp_path / "whole", "--quiet", epochs=2))
    (images,) = (path for path in tmp_path.glob("cache/shapes-train-*/images.npy"))
    save = Saver.save

    def save_and_damage(saver, step, *others):
        save(saver, step, *others)
        if step == 6:
            status = images.stat()
            with open(images, "r+b") as file:
                file.seek(-status.st_size // 2, os.SEEK_END)
                file.write(bytes(status.st_size // 2))
            os.utime(images, ns=(status.st_atime_ns, status.st_mtime_ns))

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "save", save_and_damage)
        with pytest.raises(UserError, match=rf"^{images} was changed while it was in use, and is damaged; [^\n]*$"):
            run(argv_of(tmp_path / "cache", tmp_path / "damaged", "--quiet", epochs=2))
    assert 6 <= newest_step(tmp_path / "damaged") < 2 * FLAGS["limit"] / FLAGS["batch-size"]
    again = run(argv_of(tmp_path / "cache", tmp_path / "damaged", "--quiet", "--resume", epochs=2))
    assert again["weights_sha256"] == whole["weights_sha256"]
