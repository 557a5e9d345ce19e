"""The one rule on what is a negative image, and that no importer can leave it open."""

import pytest

from mammoscope.datasets import ImageMarks, ImportedBox, ImportedImage, LeftMark, MarkCounts, Silence, account
from mammoscope.datasets.formats import LabelledFile
from mammoscope.datasets.image_marks import PassedOverError, UnknownMarkError
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

MASS = ImportedBox(Box(1, 2, 9, 9), "Mass")
CROWD = ImportedBox(Box(1, 2, 9, 9), "Mass", crowd=True)
POINT = LeftMark("a point", "a.json, shape 1")
NEGATIVE, UNANNOTATED = Silence.NEGATIVE, Silence.UNANNOTATED


def test_nothing_has_a_default_that_makes_a_negative(tmp_path):
    with pytest.raises(TypeError, match="silence"):
        ImageMarks(())
    with pytest.raises(TypeError, match="marks"):
        LabelledFile(tmp_path / "a.png", "a")
    with pytest.raises(TypeError, match="marks"):
        ImportedImage(tmp_path / "a.png", 4, 5, "p")


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        (ImageMarks((MASS,), UNANNOTATED), ReviewState.ANNOTATED),
        (ImageMarks((), NEGATIVE), ReviewState.ANNOTATED),
        (ImageMarks((), UNANNOTATED), ReviewState.UNANNOTATED),
        (ImageMarks((), NEGATIVE, passed_over=(POINT,)), ReviewState.UNANNOTATED),
        (ImageMarks((), NEGATIVE, unknown=(POINT,)), ReviewState.UNANNOTATED),
        (ImageMarks((CROWD,), NEGATIVE), ReviewState.UNANNOTATED),
        (ImageMarks((MASS,), NEGATIVE, passed_over=(POINT,), unknown=(POINT,)), ReviewState.ANNOTATED),
        (ImageMarks((MASS,), NEGATIVE, not_outlined=(POINT,)), ReviewState.UNANNOTATED),
        (ImageMarks((MASS,), NEGATIVE, disputed=True), ReviewState.DISPUTED),
        (ImageMarks((), NEGATIVE, stated=ReviewState.VALIDATED), ReviewState.VALIDATED),
    ],
)
def test_the_state_follows_from_the_account(marks, state):
    assert marks.state is state


def test_no_mark_is_lost():
    def read(_where, mark):
        if mark == "point":
            raise PassedOverError("a point")
        if mark == "star":
            raise UnknownMarkError("a star")
        return MASS

    marks = account([("1", "box"), ("2", "point"), ("3", "star"), ("4", "point")], read, NEGATIVE)

    assert (marks.boxes, marks.passed_over, marks.unknown) == (
        (MASS,), (LeftMark("a point", "2"), LeftMark("a point", "4")), (LeftMark("a star", "3"),),
    )  # fmt: skip
    counts = MarkCounts.of([marks, ImageMarks((), NEGATIVE), ImageMarks((CROWD,), NEGATIVE)])
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (1, 1, 1)
    assert (counts.taken, counts.crowds, counts.passed_over.total(), counts.unknown.total()) == (1, 1, 2, 1)
    rows = {what: (count, which) for what, count, which in counts.rows()}
    assert rows["marks passed over"] == (2, "a point (2), the first at 2")
