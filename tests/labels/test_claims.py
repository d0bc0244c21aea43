"""Claims spare work: they keep others off a span for as long as their process lives, and never for longer."""

import os
import pathlib
import tempfile

import pytest

from labeling.labels.claims import Claims, remove_old_claims
from labeling.labels.span import Span
from tfpipeline.system import PARTIAL

SPANS = [Span(0, 4), Span(4, 8), Span(8, 10)]
NOBODY = 65534


def taken(directory):
    with Claims(directory) as claims:
        return list(claims.take(SPANS, lambda span: False))


def as_another_user(work):
    """The exit code of work() in a process of another user."""
    child = os.fork()
    if child == 0:
        try:
            os.setuid(NOBODY)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def shared():
    """A directory that other users reach, which those of pytest and what lies in them are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        pathlib.Path(place).chmod(0o711)
        directory = pathlib.Path(place) / "shared"
        directory.mkdir()
        yield directory


def test_a_span_is_taken_once(tmp_path):
    with Claims(tmp_path) as claims:
        first = next(claims.take(SPANS, lambda span: False))
        assert first == SPANS[0] and taken(tmp_path) == SPANS[1:]
        claims.release(first)
        assert taken(tmp_path) == SPANS
    assert list(tmp_path.iterdir()) == []


def test_old_claims_go_and_other_files_stay(tmp_path):
    for name in (f".labels-00000004.claim{PARTIAL}", f".labels-mine.claim{PARTIAL}", f".notes{PARTIAL}"):
        (tmp_path / name).touch()
    with Claims(tmp_path) as claims:
        next(claims.take(SPANS, lambda span: False))
        remove_old_claims(tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
    assert names == {f".labels-00000000.claim{PARTIAL}", f".labels-mine.claim{PARTIAL}", f".notes{PARTIAL}"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_second_user_labels_into_a_shared_directory(shared, mode):
    """What the first one has taken stays taken; what its killed process left does not keep anybody off."""
    shared.chmod(mode)
    dead = shared / f".labels-00000008.claim{PARTIAL}"
    dead.touch()
    dead.chmod(0o644)

    def work():
        assert taken(shared) == SPANS[1:], taken(shared)

    umask = os.umask(0o077)
    try:
        with Claims(shared) as claims:
            next(claims.take(SPANS, lambda span: False))
            assert as_another_user(work) == 0
    finally:
        os.umask(umask)
    assert {path.name for path in shared.iterdir()} <= {dead.name}
