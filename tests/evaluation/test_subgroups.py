import numpy as np
import pytest

from mammoscope.evaluation import Case, EvaluationError, ImageResult, check_attributes, evaluate, figures_by
from mammoscope.findings import Box, Finding

SMALL, MEDIUM, LARGE = Box(0, 0, 10, 10), Box(20, 20, 40, 40), Box(50, 50, 90, 90)  # 10, 20, 40 % of 100 x 100
NOWHERE = Box(0, 90, 10, 100)


def case(image_id, patient, found, attributes=None, marks=None, alarms=()):
    """An image with the lesions ``marks``, of which those in ``found`` are found at 0.9, and alarms at 0.8."""
    marks = {SMALL: "a"} if marks is None else marks
    candidates = (*(Finding(box, 0.9) for box in found), *(Finding(box, 0.8) for box in alarms))
    return Case(
        ImageResult(image_id, patient, tuple(marks), candidates), f"{image_id}.png", 100, 100, attributes or {},
        tuple({"margin": margin} if margin else {} for margin in marks.values()),
    )  # fmt: skip


def by(cases, attribute, **options):
    return {group.value: group for group in figures_by(cases, [attribute], 0.5, **options)}


def test_images_by_an_attribute_of_theirs():
    cases = [
        case(1, "p", [SMALL], {"view": "CC"}),
        case(2, "p", [], {"view": "MLO"}, alarms=[NOWHERE]),
        case(3, "q", [], {"view": "CC"}),
        case(4, "q", [SMALL], {}),
    ]
    groups = by(cases, "view")
    assert list(groups) == ["CC", "MLO", "unknown"]
    cc = groups["CC"]
    assert (cc.n_images, cc.n_boxes, cc.n_patients, cc.of_boxes) == (2, 2, 2, False)
    assert (cc.figures["recall"], cc.figures["precision"]) == (0.5, 1)
    assert cc.figures["ap50"] == pytest.approx(51 / 101)
    assert groups["MLO"].figures == {"ap50": 0, "precision": 0, "recall": 0, "f1": 0, "froc_1": 0}
    assert groups["unknown"].figures["f1"] == 1


def test_lesions_by_an_attribute_of_theirs():
    cases = [
        case(1, "p", [SMALL, MEDIUM], marks={SMALL: "sharp", MEDIUM: "blurred"}),
        case(2, "q", [MEDIUM], marks={SMALL: "sharp", MEDIUM: "blurred"}, alarms=[NOWHERE]),
        case(3, "r", [], marks={}, alarms=[NOWHERE]),
        case(4, "s", [], marks={LARGE: None}),
    ]
    groups = by(cases, "margin")
    assert list(groups) == ["blurred", "sharp", "unknown"]
    sharp = groups["sharp"]
    assert (sharp.n_images, sharp.n_boxes, sharp.n_patients, sharp.of_boxes) == (2, 2, 2, True)
    # the hits on blurred ones are set aside; of the false alarms those beside sharp ones count
    assert (sharp.figures["recall"], sharp.figures["precision"]) == (0.5, 0.5)
    assert groups["blurred"].figures["recall"] == 1
    assert groups["blurred"].figures["precision"] == pytest.approx(2 / 3)
    assert groups["unknown"].figures["recall"] == 0
    assert groups["unknown"].figures["precision"] is None
    assert "precision" not in groups["unknown"].intervals


def test_sizes_are_thirds_of_the_lesions():
    cases = [case(n, "p", [], marks={box: "a"}) for n, box in enumerate((SMALL, MEDIUM, LARGE))]
    groups = by(cases, "size")
    # thirds of 10, 20, 40: 16.7 and 26.7
    assert list(groups) == ["small, under 16.7 %", "medium, 16.7 to 26.7 %", "large, 26.7 % or more"]
    assert all(group.n_boxes == 1 for group in groups.values())
    assert list(by(cases[:1], "size")) == ["large, 10.0 % or more"]
    assert by([case(1, "p", [], marks={})], "size") == {}


def test_numbers_are_in_their_order():
    cases = [case(n, "p", [], {"density": value}) for n, value in enumerate(["10", "2", "unknown", "1"])]
    assert list(by(cases, "density")) == ["1", "2", "10", "unknown"]


def test_a_group_of_everything_has_the_figures_and_intervals_of_everything():
    rng = np.random.default_rng(3)
    cases = [case(n, str(n // 2), [SMALL] if rng.random() < 0.6 else [], {"scanner": "x"}) for n in range(30)]
    (group,) = figures_by(cases, ["scanner"], 0.5, resamples=50, seed=2)
    whole = evaluate([c.result for c in cases], 0.5, "given", resamples=50, seed=2)
    named = {name: getattr(whole, name) for name in ("ap50", "precision", "recall", "f1")}
    assert group.figures == {**named, "froc_1": whole.froc["1"]}
    assert group.intervals["ap50"] == whole.intervals["ap50"]
    assert group.to_json()["intervals"]["f1"] == list(whole.intervals["f1"])


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(EvaluationError, match="no attribute 'colour'; it has margin, size, view"):
        figures_by([case(1, "p", [], {"view": "CC"})], ["view", "colour"], 0.5)
    many = [({"serial": str(n)}, ()) for n in range(21)]
    with pytest.raises(EvaluationError, match="'serial' of the set has 21 values"):
        check_attributes(["serial"], many, "the set")
    check_attributes(["serial"], many[:20])
