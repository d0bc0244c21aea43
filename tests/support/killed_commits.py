"""Kills the commit of a checkpoint before and after every system call of it: a plain process, run by a test.

Prints how many moments there were.
"""

import pathlib
import shutil
import sys

from tests.support.checkpoints import assert_is, save
from tests.support.disk import contents
from tests.support.kill_between_calls import killed_at
from tfpipeline.training import checkpoint


def commit(directory):
    """What a training does at a save: the third checkpoint comes, the first one goes."""
    save(directory, 3)
    checkpoint.prune(directory, keep=2)


def main(root: pathlib.Path) -> int:
    """The number of kills, each of which left what a commit that is run again makes whole.

    Args:
        root: an empty directory.
    """
    before, whole = root / "before", root / "whole"
    before.mkdir()
    save(before, 1), save(before, 2)
    shutil.copytree(before, whole)
    commit(whole)
    stop, killed = 0, True
    while killed:
        directory = root / str(stop)
        shutil.copytree(before, directory)
        killed = killed_at(stop, lambda directory=directory: commit(directory))
        newest = checkpoint.load_newest(directory, sys.exit)
        assert_is(newest, newest.step)
        assert newest.step in (2, 3)
        assert len([path for path in checkpoint.newest_first(directory) if checkpoint.is_whole(path)]) >= 2
        commit(directory)
        assert contents(directory) == contents(whole)
        stop += killed
    return stop


if __name__ == "__main__":
    print(main(pathlib.Path(sys.argv[1])))
