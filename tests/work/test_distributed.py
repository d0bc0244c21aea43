"""What all engines share, with engines that behave badly in the place of real ones."""

import threading
import types

import pytest

from labeling.labels import Span
from labeling.work import distributed
from labeling.work.shard_worker import Plan, show_life
from tfpipeline.system import StopRequest, UserError

PLAN = Plan("images", "labels", (), batch_size=1)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_TO_BEGIN", 0.0)
    monkeypatch.setattr(distributed, "SECONDS_TO_END", 0.01)
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)


def label(directory, engine, spans=((0, 2), (2, 4))):
    """Labels four images by an engine; it may remove the spans that it has done."""
    left = [Span(*span) for span in spans]
    store = types.SimpleNamespace(
        directory=directory, missing_spans=lambda: list(left), spec=types.SimpleNamespace(count=4, shard_size=2)
    )
    with StopRequest() as stop:
        return distributed.label(lambda *given: engine(left, *given), PLAN, store, stop, 0.01)


def wait_without_end():
    threading.Event().wait()


def test_an_engine_that_swallows_its_interruption_is_interrupted_again(tmp_path):
    swallowed = []

    def engine(left, plan, spans, give_up):
        for _ in range(3):
            try:
                wait_without_end()
            except KeyboardInterrupt as interrupt:
                swallowed.append(interrupt)

    with pytest.raises(UserError, match=r"no worker has answered for 0.01 seconds: they have died or hang"):
        label(tmp_path, engine)
    assert len(swallowed) == 3 and not list(tmp_path.iterdir())


def test_an_engine_whose_interruption_becomes_another_error_is_given_up_all_the_same(tmp_path):
    def engine(left, plan, spans, give_up):
        try:
            wait_without_end()
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt

    with pytest.raises(UserError, match="no worker has answered"):
        label(tmp_path, engine)


def test_what_is_left_when_no_worker_answers_goes_to_others(tmp_path):
    rounds = []

    def engine(left, plan, spans, give_up):
        rounds.append(list(spans))
        show_life(plan)
        left.pop(0)
        if left:
            wait_without_end()

    assert label(tmp_path, engine) == 4
    assert rounds == [[(0, 2), (2, 4)], [(2, 4)]]


def test_a_fault_of_the_engine_itself_is_no_message_for_the_user(tmp_path):
    def engine(left, plan, spans, give_up):
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        label(tmp_path, engine)
    assert not list(tmp_path.iterdir())
