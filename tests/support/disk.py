"""What is on the disk, and a disk that is soon full."""

import contextlib
import subprocess

import pytest


def contents(directory):
    """Name -> bytes of the files in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@contextlib.contextmanager
def small_disk(directory, size):
    """A context in which an existing directory is a disk of its own; skips the test where none can be mounted.

    Args:
        directory: empty.
        size: as mount takes it, such as "64k".

    Yields:
        A function that gives the disk another size.
    """

    def mount(*options):
        return subprocess.run(["mount", *options, directory], capture_output=True, text=True, check=False)

    mounted = mount("-t", "tmpfs", "-o", f"size={size}", "none")
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield lambda size: mount("-o", f"remount,size={size}").check_returncode()
    finally:
        subprocess.run(["umount", directory], check=True)
