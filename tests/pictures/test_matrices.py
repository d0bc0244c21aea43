import warnings

import numpy as np
import pytest

from tfpipeline import pictures
from tfpipeline.training import reliability


def calibration_error(confidence, correct, bins):
    """sum_b |B_b|/N |accuracy(B_b) - confidence(B_b)|: Guo et al. 2017, eq. 3, a bin after the other."""
    error = 0.0
    for number in range(bins):
        last = number == bins - 1
        inside = (confidence >= number / bins) & ((confidence < (number + 1) / bins) | last)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_the_reliability_diagram_shows_the_accuracy_of_each_bin_and_the_error(bins):
    random = np.random.default_rng(bins)
    confidence = np.append(random.uniform(0.31, 1, 200), 1.0)  # The lowest bins are empty, and 1 is in the last one.
    correct = random.random(201) < confidence**2
    found = reliability(confidence, correct, bins)
    figure = pictures.reliability_diagram(found.counts, found.accuracy, found.error, title="against the truth")
    above, below = figure.axes
    error = 100 * calibration_error(confidence, correct, bins)
    assert above.get_title() == f"against the truth: expected calibration error {error:.1f} %"
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = np.unique(number)
    middles = [bar.get_x() + bar.get_width() / 2 for bar in above.patches]
    np.testing.assert_allclose(middles, (filled + 0.5) / bins)
    np.testing.assert_allclose(
        [bar.get_height() for bar in above.patches], [correct[number == b].mean() for b in filled]
    )
    assert [bar.get_height() for bar in below.patches] == [np.sum(number == b) for b in filled]


@pytest.mark.parametrize(("right", "error"), [([1, 1, 1, 0], "0.0"), ([1, 1, 1, 1], "25.0"), ([0, 0, 0, 0], "75.0")])
def test_the_error_is_the_distance_of_confidence_from_accuracy(right, error):
    found = reliability(np.full(4, 0.75), np.array(right, bool))
    figure = pictures.reliability_diagram(found.counts, found.accuracy, found.error)
    assert figure.axes[0].get_title() == f"expected calibration error {error} %"


def test_the_confusion_matrix_has_the_percents_of_each_row():
    counts = np.array([[3, 1, 0], [0, 0, 0], [1, 399, 0]])
    figure = pictures.confusion_matrix(counts, ["ant", "bee", "cow"], "a title", reference="teacher")
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.get_images()[0].get_array(), [[75, 25, 0], [0, 0, 0], [0.25, 99.75, 0]])
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (0, 2): "<1", (1, 2): "100"}  # (column, row), none where no image is.
    assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("a title", "answer", "teacher")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ant", "bee", "cow"]


@pytest.mark.parametrize(("classes", "names", "numbers"), [(20, 20, 20), (21, 21, 0), (41, 0, 0)])
def test_a_confusion_matrix_of_many_classes_leaves_numbers_and_then_names_out(classes, names, numbers):
    name = "class {}".format
    axis = pictures.confusion_matrix(np.eye(classes, dtype=int), [name(i) for i in range(classes)]).axes[0]
    named = [label.get_text() for label in axis.get_xticklabels() if label.get_text().startswith("class")]
    assert named == [name(i) for i in range(names)]
    assert len(axis.texts) == numbers


def test_the_most_frequent_confusion_stands_on_top():
    figure = pictures.frequent_confusions([("ant", "bee", 1200, 0.5), ("cow", "ant", 3, 0.014)], "most")
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [1200, 3]
    assert [text.get_text() for text in axis.texts] == ["1,200 (50%)", "3 (1%)"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ant → bee", "cow → ant"]
    assert axis.yaxis_inverted(), "the first bar is on top"


def test_names_with_dollar_signs_are_names_and_no_formulas():
    names = ["$x^{$", "$$", "a$b"]
    figure = pictures.confusion_matrix(np.eye(3, dtype=int), names, "$\\frac{$")
    assert pictures.png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [3, 30])
def test_long_names_and_letters_that_the_font_lacks_leave_a_picture_without_a_warning(count):
    names = [f"{number} " + "an owl of the longest name " * 9 for number in range(count - 1)] + [
        "\u753b\u50cf \U0001f600"
    ]
    matrix = np.eye(count, dtype=int)
    confusions = [(names[0], names[-1], 3, 0.5), (names[1], names[0], 2, 0.4)]
    for figure in (pictures.confusion_matrix(matrix, names), pictures.frequent_confusions(confusions)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pictures.png(figure).startswith(b"\x89PNG")
        shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert max(map(len, shown)) <= 2 * 24 + 3
        assert any("0 an owl of the longest\u2026" in text for text in shown)
