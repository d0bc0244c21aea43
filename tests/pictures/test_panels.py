"""Panels of curves: none is empty, and every run looks the same in all of them."""

from tfpipeline.pictures.panels import Panel, draw_panels

CURVES = {f"run-{number}": [0.1 * number, 0.2, None] for number in range(1, 13)}


def test_what_no_run_has_gets_no_panel():
    empty = Panel("epoch", "agreement", {"run-1": [None, None], "run-2": []})
    figure = draw_panels([Panel("epoch", "loss", CURVES), empty, Panel("epoch", "top-1 (%)", CURVES, True)], "t")
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "top-1 (%)"]


def test_every_run_has_one_style_of_its_own_in_all_panels_and_one_line_in_the_legend():
    some = {name: CURVES[name] for name in list(CURVES)[5:]}
    figure = draw_panels([Panel("epoch", "loss", CURVES), Panel("layer", "norm", some, logarithmic=True)], "t")
    styles = [
        {line.get_label(): (line.get_color(), line.get_marker(), line.get_linestyle()) for line in axis.lines}
        for axis in figure.axes
    ]
    assert len(set(styles[0].values())) == 12 and styles[1] == {name: styles[0][name] for name in some}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CURVES)


def test_shares_are_shown_in_percent():
    (axis,) = draw_panels([Panel("epoch", "top-1 (%)", {"a": [0.25, 0.5]}, percent=True)], "t").axes
    assert axis.lines[0].get_ydata().tolist() == [25, 50] and axis.lines[0].get_xdata().tolist() == [1, 2]
