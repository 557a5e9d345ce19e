import math

from mammoscope.training.callbacks import Selection
from mammoscope.training.recipe import SelectionSection


def after(*figures: float) -> Selection:
    selection = Selection()
    for number, figure in enumerate(figures, start=1):
        selection = selection.after(figure, 10 * number)
    return selection


def test_the_best_is_the_first_of_the_highest():
    assert after(0.2, 0.5, 0.5, 0.4) == Selection(0.5, 20, stale=2, last=40)
    assert after(0.2, 0.5).is_fresh
    assert not after(0.2, 0.5, 0.5).is_fresh


def test_a_validation_without_a_figure_is_never_better_and_counts_once_there_was_one():
    assert after(math.nan, math.nan) == Selection(-math.inf, 0, stale=0, last=20)
    assert not after(math.nan).is_fresh
    assert after(math.nan, 0.1, math.nan) == Selection(0.1, 20, stale=1, last=30)


def test_patience_is_counted_in_validations():
    two = SelectionSection(patience=2)
    assert not after(0.5, 0.4).patience_is_over(two)
    assert after(0.5, 0.4, 0.3).patience_is_over(two)
    assert not after(0.5, 0.4, 0.6).patience_is_over(two)
    assert not after(0.5, *[0.1] * 50).patience_is_over(SelectionSection())


def test_what_changes_how_a_run_goes_on():
    assert not SelectionSection().decides
    assert SelectionSection(patience=1).decides
    assert SelectionSection(keep="best").decides
