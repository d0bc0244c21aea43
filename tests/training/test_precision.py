"""Slow bfloat16 is spoken of, fast is not."""

import pytest

from tfpipeline.training import precision


@pytest.mark.parametrize(
    ("slowdown", "text"), [(0.5, ""), (1.49, ""), (6.3, "bfloat16 takes 6.3 times as long as float32 on this machine")]
)
def test_what_is_slower_is_said(monkeypatch, slowdown, text):
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda: slowdown)
    assert precision.note_on_bfloat16().startswith(text) and bool(precision.note_on_bfloat16()) == bool(text)


def test_it_is_measured():
    assert 0.01 < precision.bfloat16_slowdown() < 1000
