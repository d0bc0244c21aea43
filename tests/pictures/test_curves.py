import numpy as np
from matplotlib.figure import Figure

from tfpipeline.pictures import draw_curves


def test_curves_hold_their_values_in_percent_and_a_single_value_is_a_level():
    axis = Figure().subplots()
    curves = {"top1": [0.25, None, 0.75], "nothing yet": [None, None, None], "the teacher": 0.5}
    draw_curves(axis, [1, 2, 4], curves, "epoch", "images (%)", percent=True)
    top1, teacher = axis.get_lines()
    assert [line.get_label() for line in (top1, teacher)] == ["top1", "the teacher"]
    assert top1.get_xdata().tolist() == [1, 2, 4]
    np.testing.assert_array_equal(top1.get_ydata(), [25, np.nan, 75])
    assert teacher.get_ydata() == [50, 50]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["top1", "the teacher"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "images (%)")


def test_values_are_as_they_are_unless_percent_is_asked_for_and_no_curve_has_no_legend():
    axis = Figure().subplots()
    draw_curves(axis, [3, 5], {"loss": np.array([2.5, 0.125])}, "epoch", "nats")
    assert axis.get_lines()[0].get_ydata().tolist() == [2.5, 0.125]
    empty = Figure().subplots()
    draw_curves(empty, [3, 5], {"loss": [None, None]}, "epoch", "nats")
    assert not empty.get_lines() and empty.get_legend() is None
