"""Panels of curves: none is empty, and every run looks the same in all of them."""

from tfpipeline.pictures.panels import Panel, draw_each, draw_panels

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


def test_each_panel_by_itself_is_as_wide_as_a_phone_with_its_own_legend_in_the_same_styles():
    some = {name: CURVES[name] for name in list(CURVES)[5:]}
    empty = Panel("epoch", "agreement", {"run-1": [None]})
    drawn = list(draw_each([Panel("epoch", "loss", CURVES), empty, Panel("epoch", "norm", some)]))
    assert [panel.ylabel for panel, _ in drawn] == ["loss", "norm"]
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for _, figure in drawn]
    assert legends == [list(CURVES), list(some)] and len({figure.get_size_inches()[0] for _, figure in drawn}) == 1
    first, second = ({line.get_label(): line.get_color() for line in f.axes[0].lines} for _, f in drawn)
    assert second.items() <= first.items()


def test_a_panel_in_words_has_the_first_and_the_last_value_of_each_curve():
    curves = {"a": [0.25, None, 0.5], "b": [None, 0.125], "c": [None]}
    assert Panel("epoch", "top-1 (%)", curves, percent=True).in_words == (
        "top-1 (%) by epoch: a from 25.0 to 50.0; b 12.5"
    )
