"""Breasts and patients told apart: counted by hand, and against all pairs."""

import numpy as np
import pytest

from mammoscope.evaluation import ImageResult, Unit, evaluate, rate, roc_auc, roc_curve
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def image(n, patient, side, score, lesion, crowds=()):
    found = () if score is None else (Finding(A if lesion else NOWHERE, score), Finding(NOWHERE, score / 2))
    return ImageResult(n, patient, (A,) if lesion else (), found, crowds, None, side)


def study():
    """Three patients: a mass in one breast, seen in one view only; a mass in one breast; none."""
    return [
        image(1, "p", "L", 0.9, True),
        image(2, "p", "L", 0.1, False),
        image(3, "p", "R", 0.4, False),
        image(4, "q", "L", 0.3, True),
        image(5, "q", "R", None, False),
        image(6, "r", "L", 0.6, False),
        image(7, "r", "R", 0.3, False),
    ]


def test_the_units_of_a_study():
    breasts = rate(study(), Unit.BREAST)
    assert breasts.score.tolist() == [0.9, 0.6, 0.4, 0.3, 0.3, 0.0]
    assert sorted(zip(breasts.score.tolist(), breasts.positive.tolist(), strict=True)) == [
        (0.0, False), (0.3, False), (0.3, True), (0.4, False), (0.6, False), (0.9, True),
    ]  # fmt: skip
    patients = rate(study(), Unit.PATIENT)
    assert list(zip(patients.score.tolist(), patients.positive.tolist(), strict=True)) == [
        (0.9, True), (0.6, False), (0.3, True),
    ]  # fmt: skip
    assert (rate(study(), Unit.IMAGE).n_with, rate(study(), Unit.IMAGE).n_without) == (2, 5)


def test_areas_by_hand():
    # breasts: 0.9 beats all four without; 0.3 beats 0.0, ties with 0.3, loses to 0.4 and 0.6
    assert roc_auc(rate(study(), Unit.BREAST))[0] == pytest.approx((4 + 1.5) / 8)
    assert roc_auc(rate(study(), Unit.PATIENT))[0] == pytest.approx(1 / 2)
    # images: 0.9 beats all five; 0.3 beats 0.1 and 0.0, ties with 0.3
    assert roc_auc(rate(study(), Unit.IMAGE))[0] == pytest.approx((5 + 2.5) / 10)


def test_a_patient_drawn_twice_counts_as_two():
    twice = [
        *study(),
        *(image(r.image_id + 10, "r2", r.laterality, r.candidates[0].score, False) for r in study()[5:]),
    ]
    weighted = roc_auc(rate(study(), Unit.BREAST), np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 3.0]]))
    assert weighted[0] == pytest.approx(roc_auc(rate(twice, Unit.BREAST))[0])
    assert np.isnan(weighted[1])  # no breast with a lesion was drawn


def test_it_is_the_share_of_pairs_put_right():
    rng = np.random.default_rng(2)
    results = [
        image(n, str(n // 3), "LR"[n % 2], float(np.round(rng.uniform(), 1)), bool(rng.uniform() < 0.4))
        for n in range(200)
    ]
    units = rate(results, Unit.IMAGE)
    with_lesion, without = units.score[units.positive], units.score[~units.positive]
    pairs = (with_lesion[:, None] > without) + (with_lesion[:, None] == without) / 2
    assert roc_auc(units)[0] == pytest.approx(pairs.mean())
    false, true = roc_curve(units)
    assert np.trapezoid(true, false) == pytest.approx(pairs.mean())
    assert (false[-1], true[-1]) == (1, 1)


def test_an_unknown_side_is_no_breast_and_a_crowd_no_negative():
    results = [image(1, "p", None, 0.9, True), image(2, "q", "L", 0.5, False), image(3, "r", "L", 0.7, False, (A,))]
    assert len(rate(results, Unit.BREAST).score) == 1
    assert rate(results, Unit.IMAGE).score.tolist() == [0.9, 0.5]


def test_in_the_report_with_an_interval():
    metrics = evaluate(study(), 0.5, "given", resamples=200)
    assert metrics.auc_breast == pytest.approx(5.5 / 8)
    assert metrics.auc_units == {"image": (2, 5), "breast": (2, 4), "patient": (2, 1)}
    low, high = metrics.intervals["auc_breast"]
    assert low < metrics.auc_breast < high
    assert "ROC" not in metrics.note


def test_without_normals_the_report_says_so():
    metrics = evaluate([image(1, "p", "L", 0.9, True), image(2, "q", None, 0.8, True)], 0.5, "given", resamples=5)
    assert metrics.auc_image is metrics.auc_breast is metrics.auc_patient is None
    assert "There is no ROC AUC over images, breasts and patients: it takes some with a marked lesion" in metrics.note
    assert "1 image is of an unknown side and belongs to no breast." in metrics.note
