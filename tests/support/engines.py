"""A labeling of every complication, small enough for the tests of each engine that spreads it."""

import os

from jobs import command, label_imagenet64
from tests.support.processes import Child
from tests.support.tiny_teachers import save_hub_module

IMAGES, SHARD = 480, 2


def build_place(directory):
    """The folder with two tiny teachers of 12 classes and a subset of these in it; the cache of the images will be."""
    save_hub_module(directory / "first", classes=12, size=64)
    save_hub_module(directory / "second", classes=12, size=16, softmax=True, seed=1)
    (directory / "subset.txt").write_text("7\n2\n3\n11\n5\n")
    return directory


def arguments(place, out, *switches):
    """The command's arguments: two teachers fed in their own ways, two views, a subset of the classes."""
    flags = ["--images", "shapes", "--limit", IMAGES, "--cache", place / "cache", "--out", out]
    flags += ["--teacher", place / "first", "--teacher", place / "second", "--classes", place / "subset.txt"]
    flags += ["--interpolation", "bicubic", "--interpolation", "area", "--weight", 2, "--weight", 1]
    flags += ["--teacher-range", "0..1", "--teacher-range", "tf"]
    flags += ["--views", "identity,crop:4:8:40:flip", "--keep-views"]
    flags += ["--top-k", 3, "--shard-size", SHARD, "--batch-size", 1, "--runtime", "tensorflow", "--no-gate"]
    return [str(flag) for flag in [*flags, *switches]]


def run(place, out, *switches):
    """The figures of the command, in this process."""
    return label_imagenet64.run(command.parse(label_imagenet64.Config, arguments(place, out, *switches), "label", ""))


def start(place, out, *switches):
    """The command in a process of its own, as people run it."""
    return Child(out.with_suffix(".txt"), _main, arguments(place, out, *switches), dict(os.environ))


def _main(flags, environment):
    os.environ.update(environment)  # The server that it is forked from may be older than what a test has set.
    command.main(label_imagenet64.Config, label_imagenet64.run, label_imagenet64.EXAMPLE, flags)


def wait_for_shards(child, out, count):
    """Waits until so many shards are there, which the command must not end before."""
    while len(list(out.glob("labels-*.npz"))) < count:
        assert not child.ended(0.05), child.said()


def without_speed(figures):
    """The figures that do not depend on the machine."""
    return {name: value for name, value in figures.items() if name not in ("seconds", "images_per_second", "out")}
