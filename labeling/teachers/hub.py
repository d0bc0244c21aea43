"""SavedModels behind handles of TF-Hub, fetched into its cache: bounded in size and time, by one scheme alone."""

import hashlib
import os
import pathlib
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from tfpipeline.system import lock_file, new_directory, remove_old_scratch

SECONDS = 60.0  # without a byte
MOST_SECONDS = 4 * 3600.0  # for the whole archive
MOST_BYTES = 8 * 2**30  # of the archive, and of what is in it; the largest published classifiers have 4 GiB
MOST_FILES = 10_000
_FORMAT = "tf-hub-format=compressed"
_TARS = (".tar", ".tar.gz", ".tgz")


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where it stays with the scheme that was asked for."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        asked, told = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if told != asked:
            raise urllib.error.HTTPError(
                req.full_url, code, f"the server redirects from {asked} to {newurl}, which is not followed", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Bounded:
    """A stream that ends with an error after MOST_BYTES or MOST_SECONDS."""

    def __init__(self, stream):
        # What has come is taken at once, where the stream can do so: the time is looked at in between.
        self._read = getattr(stream, "read1", stream.read)
        self._left, self._end = MOST_BYTES, time.monotonic() + MOST_SECONDS

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        content = self._read(size)
        self._left -= len(content)
        if self._left < 0:
            raise OSError(f"the server sends more than {MOST_BYTES:,} bytes")
        if time.monotonic() > self._end:
            raise OSError(f"the server sends for more than {MOST_SECONDS:,.0f} seconds")
        return content


def fetch(handle: str) -> pathlib.Path:
    """The directory of a SavedModel in TF-Hub's cache, where it is fetched into if it is not there.

    Args:
        handle: a URL; those of directories, other than http and https, are left to tensorflow_hub. Archives are not:
            where it was killed, its lock holds up the next process for twenty minutes.

    Raises:
        OSError: the server does not answer, answers something else than an archive, redirects to another scheme, or
            sends more than MOST_BYTES, or for longer than MOST_SECONDS.
        tarfile.TarError: a name in the archive leads out of the directory.
    """
    if not _is_http(handle) and not (handle.startswith("gs://") and handle.endswith(_TARS)):
        import tensorflow_hub

        return pathlib.Path(tensorflow_hub.resolve(handle))
    # As tensorflow_hub names them.
    cache = pathlib.Path(os.environ.get("TFHUB_CACHE_DIR") or pathlib.Path(tempfile.gettempdir()) / "tfhub_modules")
    directory = cache / hashlib.sha1(handle.encode()).hexdigest()
    with lock_file(directory.with_suffix(".waiting"), f"fetches {handle}"):
        remove_old_scratch(cache)
        if not directory.is_dir():
            with new_directory(directory) as partial:
                _extract(handle, partial)
    return directory


def _is_http(handle):
    return urllib.parse.urlsplit(handle).scheme in ("http", "https")


def _extract(handle, directory):
    size = 0
    with (
        _open(handle) as answer,
        tarfile.open(fileobj=_Bounded(answer), mode="r|*") as archive,
    ):
        for number, member in enumerate(archive):
            size += member.size
            if size > MOST_BYTES or number >= MOST_FILES:
                raise OSError(f"the archive holds more than {MOST_BYTES:,} bytes or {MOST_FILES:,} files")
            archive.extract(member, directory, filter="data")


def _open(handle):
    """The archive behind a handle, as a stream."""
    if _is_http(handle):
        url = f"{handle}{'&' if '?' in handle else '?'}{_FORMAT}"
        return urllib.request.build_opener(_SameScheme).open(url, timeout=SECONDS)
    import tensorflow as tf

    return tf.io.gfile.GFile(handle, "rb")
