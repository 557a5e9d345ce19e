"""Every figure on cases small enough to work out by hand."""

import math

import numpy as np
import pytest

from mammoscope.evaluation import (
    CENTRE,
    EvaluationError,
    ImageResult,
    area_under_precision_recall,
    average_precision,
    choose_threshold,
    count_at,
    froc_curve,
    match,
    precision_recall_curve,
    sensitivity_at,
)
from mammoscope.findings import Box, Finding

A, B, NOWHERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60), Box(100, 100, 110, 110)


def results():
    """Four images, three lesions. By score: .9 hit, .8 miss, .7 hit, .6 miss, .5 miss, .4 hit."""
    return [
        ImageResult(1, "p", (A,), (Finding(A, 0.9), Finding(NOWHERE, 0.6))),
        ImageResult(2, "p", (A, B), (Finding(B, 0.7), Finding(A, 0.4), Finding(NOWHERE, 0.8))),
        ImageResult(3, "q", (), (Finding(A, 0.5),)),
        ImageResult(4, "r", (), ()),
    ]


def test_matches_are_by_falling_score():
    found = match(results(), 0.5)
    assert found.score.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert found.hit.tolist() == [True, False, True, False, False, True]
    assert found.n_truth.tolist() == [1, 2, 0, 0]
    assert found.n_images == 4
    assert found.n_patients == 3


def test_each_lesion_is_found_once():
    twice = [ImageResult(1, "p", (A,), (Finding(A, 0.4), Finding(A, 0.9)))]
    assert match(twice, 0.5).hit.tolist() == [True, False]


def test_a_candidate_takes_the_lesion_it_fits_best():
    # the candidate's IoU is 80/100 with the tall lesion and 80/90 with itself cut at 8 rows
    near, exact = Box(0, 0, 10, 10), Box(0, 0, 10, 8)
    both = [ImageResult(1, "p", (near, exact), (Finding(exact, 0.9), Finding(near, 0.5)))]
    assert match(both, 0.5).hit.tolist() == [True, True]
    assert match(both, 0.9).hit.tolist() == [True, True]
    first = [ImageResult(1, "p", (near,), (Finding(exact, 0.9),))]
    assert match(first, 0.8).hit.tolist() == [True]
    assert match(first, 0.81).hit.tolist() == [False]


def test_a_candidate_in_a_crowd_counts_neither_way():
    crowded = [
        ImageResult(1, "p", (A,), (Finding(A, 0.9), Finding(B, 0.8), Finding(NOWHERE, 0.7)), (Box(40, 40, 70, 70),))
    ]
    found = match(crowded, 0.5)
    assert found.score.tolist() == [0.9, 0.7]
    assert found.hit.tolist() == [True, False]


def test_only_the_hundred_highest_count():
    many = [ImageResult(1, "p", (A,), (*(Finding(NOWHERE, 0.5) for _ in range(100)), Finding(A, 0.4)))]
    assert not match(many, 0.5).hit.any()
    assert match(many, 0.5, max_candidates=101).hit.sum() == 1


def test_average_precision():
    # precision at the hits 1, 2/3, 1/2 for recalls up to 1/3 (0 to .33: 34 of 101), 2/3 (33), 1 (34)
    assert average_precision(match(results(), 0.5))[0] == pytest.approx((34 * 1 + 33 * 2 / 3 + 34 * 1 / 2) / 101)


def test_average_precision_takes_the_best_precision_at_a_higher_recall():
    late = [ImageResult(1, "p", (A, B), (Finding(NOWHERE, 0.9), Finding(A, 0.8), Finding(B, 0.7)))]
    # precision 0, 1/2, 2/3: the envelope is 2/3 from recall 0 on
    assert average_precision(match(late, 0.5))[0] == pytest.approx(2 / 3)


def test_average_precision_without_candidates_and_without_lesions():
    assert average_precision(match([ImageResult(1, "p", (A,), ())], 0.5))[0] == 0
    assert math.isnan(average_precision(match([ImageResult(1, "p", (), (Finding(A, 0.5),))], 0.5))[0])


def test_area_under_the_measured_curve():
    # recall steps of 1/3 at the precisions 1, 2/3, 1/2, whatever comes at higher recalls
    assert area_under_precision_recall(match(results(), 0.5))[0] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    late = [ImageResult(1, "p", (A, B), (Finding(NOWHERE, 0.9), Finding(A, 0.8), Finding(B, 0.7)))]
    assert area_under_precision_recall(match(late, 0.5))[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    tied = [ImageResult(1, "p", (A,), (Finding(A, 0.5), Finding(NOWHERE, 0.5)))]
    assert area_under_precision_recall(match(tied, 0.5))[0] == pytest.approx(1 / 2)  # one threshold takes both
    assert area_under_precision_recall(match([ImageResult(1, "p", (A,), ())], 0.5))[0] == 0
    assert math.isnan(area_under_precision_recall(match([ImageResult(1, "p", (), (Finding(A, 0.5),))], 0.5))[0])


def test_a_hit_by_the_centre():
    inside, outside = Box(4, 4, 6, 6), Box(8, 8, 14, 14)  # IoU 0.04 with A, its centre inside; centre at (11, 11)
    case = [ImageResult(1, "p", (A,), (Finding(outside, 0.9), Finding(inside, 0.8), Finding(A, 0.7)))]
    assert match(case, CENTRE).hit.tolist() == [False, True, False]  # the lesion is taken by then
    assert match(case, 0.5).hit.tolist() == [False, False, True]
    on_edge = [ImageResult(1, "p", (A,), (Finding(Box(8, 0, 12, 10), 0.9),))]
    assert match(on_edge, CENTRE).hit.tolist() == [True]


def test_of_two_lesions_that_hold_the_centre_the_one_with_the_higher_iou_is_found():
    large, small = Box(0, 0, 20, 20), Box(4, 4, 16, 16)
    case = [ImageResult(1, "p", (large, small), (Finding(Box(5, 5, 15, 15), 0.9),))]
    assert match(case, CENTRE).lesion.tolist() == [1]


def test_a_centre_in_a_crowd_counts_neither_way():
    case = [ImageResult(1, "p", (), (Finding(Box(0, 0, 30, 30), 0.9),), crowds=(Box(10, 10, 20, 20),))]
    assert len(match(case, CENTRE).score) == 0
    assert match(case, 0.5).hit.tolist() == [False]


def test_precision_recall_f1_at_a_threshold():
    counts = count_at(match(results(), 0.5), 0.6)  # two hits, two false, one lesion left; 0.6 itself is taken
    assert (counts.true_positives[0], counts.false_positives[0], counts.false_negatives[0]) == (2, 2, 1)
    assert counts.precision[0] == 1 / 2
    assert counts.recall[0] == 2 / 3
    assert counts.f1[0] == pytest.approx(4 / 7)


def test_precision_without_findings_is_undefined_and_recall_is_0():
    counts = count_at(match(results(), 0.5), 0.95)
    assert math.isnan(counts.precision[0])
    assert counts.recall[0] == 0
    assert counts.f1[0] == 0


def test_sensitivity_at_false_positives_per_image():
    # four images: 0.25 allows one false positive (2 hits by then), 0.5 two (still 2), 0.75 three (all 3)
    at = sensitivity_at(match(results(), 0.5), (0.0, 0.25, 0.5, 0.75, 2.0))[0]
    assert at.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1, 1])


def test_equal_scores_are_taken_together():
    tied = [ImageResult(1, "p", (A,), (Finding(A, 0.5), Finding(NOWHERE, 0.5)))]
    # no threshold finds the lesion without the false positive
    assert sensitivity_at(match(tied, 0.5), (0.5, 1.0))[0].tolist() == [0, 1]
    fppi, sensitivity = froc_curve(match(tied, 0.5))
    assert (fppi.tolist(), sensitivity.tolist()) == ([1.0], [1.0])
    recall, precision = precision_recall_curve(match(tied, 0.5))
    assert (recall.tolist(), precision.tolist()) == ([1.0], [0.5])


def test_curves():
    recall, precision = precision_recall_curve(match(results(), 0.5))
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 1])
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2, 2 / 5, 1 / 2])
    fppi, sensitivity = froc_curve(match(results(), 0.5))
    assert fppi.tolist() == [0, 0.25, 0.25, 0.5, 0.75, 0.75]
    assert sensitivity.tolist() == pytest.approx(recall.tolist())


def test_the_threshold_with_the_highest_f1():
    # F1 by falling score: 2/4, 2/5, 4/6, 4/7, 4/8, 6/9; 4/6 and 6/9 are equal: the higher threshold, between .7 and .6
    assert choose_threshold(results()) == pytest.approx(0.65)


def test_the_threshold_that_takes_everything_is_the_lowest_score():
    assert choose_threshold([ImageResult(1, "p", (A,), (Finding(A, 0.3),))]) == 0.3


def test_no_threshold_where_nothing_is_found():
    with pytest.raises(EvaluationError, match="no candidate finds a lesion"):
        choose_threshold([ImageResult(1, "p", (A,), (Finding(B, 0.3),))])
    with pytest.raises(EvaluationError, match="no candidate finds a lesion"):
        choose_threshold([ImageResult(1, "p", (A,), ())])


def test_no_image_and_double_images_are_refused():
    with pytest.raises(EvaluationError, match="no image"):
        match([], 0.5)
    with pytest.raises(EvaluationError, match="image 7 has two results"):
        match([ImageResult(7, "p", (), ()), ImageResult(7, "q", (), ())], 0.5)


def test_a_weight_of_two_is_the_patient_twice():
    """The weighted figures are those of a set in which the patient's images are really there that often."""
    rng = np.random.default_rng(2)

    def image(image_id: int, patient: str) -> ImageResult:
        truth = tuple(Box.from_xywh(*rng.uniform(0, 90, 2), 10, 10) for _ in range(rng.integers(0, 3)))
        near = [Finding(Box.from_xywh(b.x0 + rng.uniform(0, 5), b.y0, 10, 10), float(rng.uniform())) for b in truth]
        far = [Finding(Box.from_xywh(*rng.uniform(0, 90, 2), 10, 10), float(rng.uniform())) for _ in range(4)]
        return ImageResult(image_id, patient, truth, (*near, *far))

    once = [image(n, "abcde"[n // 4]) for n in range(20)]
    weights = np.array([[2.0, 0.0, 1.0, 3.0, 1.0], [0.0, 5.0, 0.0, 0.0, 0.0]])
    for row, drawn in enumerate(weights):
        copies = [r for r in once for _ in range(int(drawn["abcde".index(r.patient)]))]
        real = [ImageResult(n, r.patient, r.truth, r.candidates) for n, r in enumerate(copies)]
        weighted, repeated = match(once, 0.5), match(real, 0.5)
        assert average_precision(weighted, weights)[row] == pytest.approx(average_precision(repeated)[0])
        area = area_under_precision_recall(weighted, weights)[row]
        assert area == pytest.approx(area_under_precision_recall(repeated)[0])
        assert sensitivity_at(weighted, (0.5, 1, 2), weights)[row] == pytest.approx(
            sensitivity_at(repeated, (0.5, 1, 2))[0]
        )
        ours, theirs = count_at(weighted, 0.5, weights), count_at(repeated, 0.5)
        assert ours.true_positives[row] == theirs.true_positives[0]
        assert ours.precision[row] == pytest.approx(theirs.precision[0])
        assert ours.f1[row] == pytest.approx(theirs.f1[0])
