"""Scores made probabilities: a curve found again, nothing changes places, and what cannot be learned."""

from dataclasses import replace

import numpy as np
import pytest

from mammoscope.evaluation import (
    Case,
    EvaluationError,
    ImageResult,
    Report,
    calibrated,
    calibration_error,
    choose_threshold,
    count_at,
    evaluate,
    fit_calibration,
    match,
    recalibrated_metadata,
    uncalibrated,
)
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Crop
from mammoscope.inference import BundleInput, BundleMetadata, Calibration, OperatingPoint

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def overconfident(n=2000, seed=0):
    """One candidate an image; its true log odds are half those of its score, less one."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, n)
    truth = 1 / (1 + np.exp(-(0.5 * np.log(scores / (1 - scores)) - 1)))
    hits = rng.uniform(size=n) < truth
    return [
        ImageResult(i, str(i // 2), (A,), (Finding(A if hit else NOWHERE, float(score)),))
        for i, (hit, score) in enumerate(zip(hits, scores, strict=True))
    ]


def test_the_curve_is_found_again():
    curve = fit_calibration(overconfident(), fitted_on="dice")
    assert curve.slope == pytest.approx(0.5, abs=0.08)
    assert curve.intercept == pytest.approx(-1, abs=0.1)
    assert curve.fitted_on == "dice"
    assert curve.rule == "a mark with that score hits a lesion (IoU 0.5 or more)"
    others = overconfident(seed=1)
    assert calibration_error(match(others, 0.5))[0] > 0.2
    assert calibration_error(match(calibrated(others, curve), 0.5))[0] < 0.05


def test_two_scores_by_hand():
    # three of four candidates at 0.8 hit, one of four at 0.5; with one hit and one other added as the targets do,
    # the two shares give the line through both log odds exactly
    results = [
        ImageResult(n, str(n), (A,), (Finding(A if n in {0, 1, 2, 4} else NOWHERE, 0.8 if n < 4 else 0.5),))
        for n in range(8)
    ]
    high, low = (3 * 5 / 6 + 1 * 1 / 6) / 4, (1 * 5 / 6 + 3 * 1 / 6) / 4
    curve = fit_calibration(results)
    assert curve.probability(np.array([0.8, 0.5])) == pytest.approx([high, low], abs=1e-6)
    assert curve.intercept == pytest.approx(np.log(low / (1 - low)), abs=1e-6)


def test_the_mean_probability_of_the_marks_shown_is_their_precision():
    results = overconfident()
    matches = match(calibrated(results, fit_calibration(results)), 0.5)
    for threshold in (0.2, 0.4):
        shown = matches.score >= threshold
        assert matches.score[shown].mean() == pytest.approx(count_at(matches, threshold).precision[0], abs=0.02)


def crowded(seed=3):
    rng = np.random.default_rng(seed)
    return [
        ImageResult(
            n, str(n // 2), (A,) if n % 3 else (),
            tuple(
                Finding(A if rng.uniform() < 0.3 else NOWHERE, float(np.float32(rng.beta(0.5, 1)))) for _ in range(8)
            ),
            (), None, "LR"[n % 2],
        )
        for n in range(40)
    ]  # fmt: skip


@pytest.mark.parametrize(("slope", "intercept"), [(2.1, 0.9), (0.3, -2.0), (3.0, 1.0)])
def test_what_ranks_stays_as_it_is(slope, intercept):
    before = crowded()
    after = calibrated(before, Calibration(slope=slope, intercept=intercept, rule="", fitted_on=""))
    points = choose_threshold(before), choose_threshold(after)
    one, other = (evaluate(results, point, "", resamples=20).to_json() for results, point in
                  zip((before, after), points, strict=True))  # fmt: skip
    same = {name for name, value in one.items() if value == other[name]}
    assert set(one) - same == {"threshold", "calibration_error", "reliability", "intervals"}
    assert one["intervals"]["froc_iou20_1"] == other["intervals"]["froc_iou20_1"]


def test_there_and_back():
    before = crowded()
    curve = Calibration(slope=2.1, intercept=0.9, rule="", fitted_on="")
    again = uncalibrated(calibrated(before, curve), curve)
    for one, other in zip(before, again, strict=True):
        assert [f.score for f in other.candidates] == pytest.approx([f.score for f in one.candidates], abs=1e-9)
        assert [f.box for f in other.candidates] == [f.box for f in one.candidates]
    assert calibrated(before, None) == uncalibrated(before, None) == before


def test_scores_at_the_ends_stay_probabilities():
    curve = Calibration(slope=9.0, intercept=3.0, rule="", fitted_on="")
    ends = curve.probability(np.array([0.0, 1.0], np.float32))
    assert 0 <= ends[0] < 1e-9
    assert 1 - 1e-9 < ends[1] <= 1


@pytest.mark.parametrize("scores", [("-", "-"), ("+", "+"), ("-+", "+-")])
def test_nothing_to_learn(scores):
    """Only misses; only hits; hits that score lower."""
    marks = {"+": A, "-": NOWHERE}
    results = [
        ImageResult(n, str(n), (A,), tuple(Finding(marks[m], 0.9 - 0.5 * k) for k, m in enumerate(signs)))
        for n, signs in enumerate(("-+", "-+") if scores == ("-+", "+-") else scores)
    ]
    assert fit_calibration(results) is None


METADATA = BundleMetadata(
    name="net", version="7", input=BundleInput(rows=320, columns=192, crop=Crop.BREAST), classes=("Mass",),
    operating_points=(OperatingPoint(name="default", threshold=0.5, rule="highest F1", chosen_on="val"),),
    training_data=(), made_with="a pencil",
)  # fmt: skip


def report(folder, results, version="7"):
    metrics = evaluate(results, 0.5, "by hand", resamples=0, dataset="set", split="val", model="net",
                       model_version=version).to_json()  # fmt: skip
    return Report(folder, metrics, tuple(Case(r, "x.png", 9, 9, {}, ({},) * len(r.truth)) for r in results))


def test_a_bundle_gets_a_calibration_and_shows_what_it_did(tmp_path):
    results = overconfident(400)
    made = recalibrated_metadata(report(tmp_path, results), METADATA)
    assert made.calibration.fitted_on == "set, split val, 400 images of 200 patients"
    assert made.version.startswith("7.calibrated-")
    before, after = match(results, 0.5), match(calibrated(results, made.calibration), 0.5)
    threshold = made.operating_points[0].threshold
    assert threshold != 0.5
    assert (before.score >= 0.5).tolist() == (after.score >= threshold).tolist()


def test_calibrating_again_does_not_add_up(tmp_path):
    results = overconfident(400)
    once = recalibrated_metadata(report(tmp_path, results), METADATA)
    again = recalibrated_metadata(report(tmp_path, calibrated(results, once.calibration), version=once.version), once)
    assert again.calibration.slope == pytest.approx(once.calibration.slope, abs=1e-6)
    assert again.operating_points[0].threshold == pytest.approx(once.operating_points[0].threshold, abs=1e-6)
    assert again.version.count("calibrated") == 1


def test_a_report_of_another_model_or_of_chance_is_refused(tmp_path):
    of_another = report(tmp_path, overconfident(100), version="8")
    with pytest.raises(EvaluationError, match="is of net 8, not of net 7: evaluate this bundle first"):
        recalibrated_metadata(of_another, METADATA)
    hopeless = [replace(result, candidates=(Finding(NOWHERE, 0.5),)) for result in overconfident(10)]
    with pytest.raises(EvaluationError, match="teaches no calibration"):
        recalibrated_metadata(report(tmp_path, hopeless), METADATA)
