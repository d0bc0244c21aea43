"""What stands behind a handle is fetched within bounds, into its directory alone, and is there whole or not at all."""

import hashlib
import http.server
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading

import pytest
import tensorflow as tf

from labeling.teachers import hub
from labeling.teachers.teacher import load_teacher
from tests.support.local_hub import fetch
from tests.support.processes import Child
from tests.support.repository import ROOT
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import UserError


class _Hostile(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.answer(self)

    def log_message(self, *_):
        """Keeps the test's output clean."""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A function: what the server does with a request -> the handle that it answers to."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        threading.Thread(target=server.serve_forever).start()

        def serve(answer):
            server.answer = answer
            return f"http://127.0.0.1:{server.server_port}/google/tiny/1"

        yield serve
        server.shutdown()


def archive_of(*members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, size in members:
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    return content.getvalue()


def sends(content):
    def answer(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)

    return answer


def redirects_to(address):
    def answer(request):
        request.send_response(302)
        request.send_header("Location", address)
        request.end_headers()

    return answer


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, 0


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "https://127.0.0.1/x"])
def test_no_redirect_to_another_scheme_is_followed(hostile, address):
    with pytest.raises(
        UserError, match=r"could not be fetched .*(redirects from http to .*, which is not f|is not allowed)"
    ):
        load_teacher(hostile(redirects_to(address)))


@pytest.mark.parametrize(
    "content",
    [
        archive_of((tarfile.TarInfo("../outside"), 3)),
        archive_of((tarfile.TarInfo("a/../../outside"), 3)),
        archive_of(link("a", ".."), (tarfile.TarInfo("a/outside"), 3)),
        b"no archive",
        b"",
    ],
    ids=["above", "above from within", "through a link", "no archive", "nothing"],
)
def test_extraction_stays_inside(tmp_path, hostile, content):
    with pytest.raises(UserError, match="could not be fetched"):
        load_teacher(hostile(sends(content)))
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name not in ("cache",)]
    assert not list(tmp_path.rglob("outside"))


def test_an_archive_without_end_is_cut_off(tmp_path, hostile, monkeypatch):
    monkeypatch.setattr(hub, "MOST_BYTES", 50_000)
    with pytest.raises(UserError, match=r"the archive holds more than 50,000 bytes"):
        load_teacher(hostile(sends(archive_of((tarfile.TarInfo("a"), 1_000_000)))))
    with pytest.raises(UserError, match=r"the server sends more than 50,000 bytes"):
        load_teacher(
            hostile(sends(archive_of(*[(tarfile.TarInfo(f"{i}{os.urandom(60).hex()}"), 0) for i in range(2000)])))
        )
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_a_server_that_falls_silent_is_given_up(hostile, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    silent = threading.Event()
    with pytest.raises(UserError, match=r"could not be fetched .*timed out"):
        load_teacher(hostile(lambda request: silent.wait(10)))
    silent.set()


def test_an_archive_in_a_bucket_is_fetched_under_the_same_rules(tmp_path, monkeypatch):
    """A lock of tensorflow_hub, whose process was killed, is not waited for."""
    handle, cache = "gs://bucket/tiny.tar.gz", tmp_path / "cache"
    save_hub_module(tmp_path / "m", classes=5)
    with tarfile.open(tmp_path / "tiny.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "m", arcname=".")
    opened = tf.io.gfile.GFile
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda _, mode: opened(str(tmp_path / "tiny.tar.gz"), mode))
    cache.mkdir()
    lock = (cache / hashlib.sha1(handle.encode()).hexdigest()).with_suffix(".lock")
    lock.write_text(f"{socket.gethostname()}.1.{'0' * 32}")
    assert load_teacher(handle).log_probs(tf.ones((2, 16, 16, 3))).shape == (2, 5)
    monkeypatch.setattr(hub, "MOST_BYTES", 100)
    with pytest.raises(UserError, match=r"the server sends more than 100 bytes"):
        load_teacher("gs://bucket/other.tar.gz")


def sends_half_and_waits(content, released):
    def answer(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        released.wait(60)

    return answer


@pytest.mark.slow
def test_a_killed_download_holds_nobody_up_and_leaves_nothing(tmp_path, hostile):
    released = threading.Event()
    save_hub_module(tmp_path / "m", classes=5)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(tmp_path / "m", arcname=".")
    handle = hostile(sends_half_and_waits(content.getvalue(), released))
    child = Child(tmp_path / "said", fetch, tmp_path / "cache", handle)
    while not list(tmp_path.glob("cache/.*.scratch/content/*")):
        assert not child.ended(0.01), child.said()
    second = Child(tmp_path / "second", fetch, tmp_path / "cache", handle)
    while not second.said():
        assert not second.ended(0.01)
    assert second.said().startswith(f"waiting for process {child.process.pid} on ")
    assert second.said().endswith(f", which fetches {handle}\n")
    second.kill(), child.kill()
    released.set()
    hostile(sends(content.getvalue()))
    hub.fetch(handle)
    digest = hashlib.sha1(handle.encode()).hexdigest()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [digest, f"{digest}.waiting"]


FETCHES = """
import dataclasses, sys
from jobs import command
from labeling.teachers import hub
from tfpipeline.system.flags import Flags, required

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    handle: str = required("what to fetch")

command.main(Config, lambda config: {"fetched": str(hub.fetch(config.handle))}, "", ["--handle", sys.argv[1]])
"""


@pytest.mark.slow
def test_signals_end_a_download_and_the_wait_for_one_in_one_line_and_leave_nothing(tmp_path, hostile):
    released = threading.Event()
    handle = hostile(sends_half_and_waits(archive_of((tarfile.TarInfo("a"), 100)), released))

    def start():
        return subprocess.Popen([sys.executable, "-c", FETCHES, handle], cwd=ROOT, stderr=subprocess.PIPE, text=True)

    with start() as first:
        while not list(tmp_path.glob("cache/.*.scratch/content")):
            assert first.poll() is None
        with start() as second:
            assert second.stderr.readline().startswith(f"waiting for process {first.pid} on ")
            for child, number in ((second, signal.SIGTERM), (first, signal.SIGINT)):
                child.send_signal(number)
                _, said = child.communicate()
                assert (child.returncode, said.count("\n")) == (130, 1), said
                assert "interrupted before there was anything to save" in said
    released.set()
    digest = hashlib.sha1(handle.encode()).hexdigest()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{digest}.waiting"]
