import json
import math
from dataclasses import replace

import numpy as np
import pytest

from mammoscope.evaluation import EvaluationError, ImageResult, evaluate, report_markdown
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def found(image_id: int, patient: str) -> ImageResult:
    return ImageResult(image_id, patient, (A,), (Finding(A, 0.9),))


def missed(image_id: int, patient: str) -> ImageResult:
    return ImageResult(image_id, patient, (A,), (Finding(NOWHERE, 0.8),))


def test_all_figures_of_a_small_set():
    metrics = evaluate([found(1, "p"), found(2, "p"), missed(3, "q")], 0.5, "given", dataset="small", model="m")
    content = metrics.to_json()
    assert content["ap50"] == content["ap10"] == pytest.approx(67 / 101)  # recall 2/3 at precision 1
    assert content["precision"] == content["recall"] == content["f1"] == pytest.approx(2 / 3)
    assert content["froc"] == pytest.approx({"0.25": 2 / 3, "0.5": 2 / 3, "1": 2 / 3, "2": 2 / 3})
    assert content["ap50_95"] == pytest.approx(content["ap50"])  # the hits are exact
    assert (
        content["ap50_area"]
        == content["froc_means"]["froc"]["mean"]
        == content["froc_means"]["froc_centre"]["mean"]
        == pytest.approx(2 / 3)
    )
    assert (content["true_positives"], content["false_positives"], content["false_negatives"]) == (2, 1, 1)
    assert (content["n_images"], content["n_boxes"], content["n_patients"]) == (3, 3, 2)
    assert content["fppi"] == pytest.approx(1 / 3)
    assert content["threshold"] == 0.5
    assert content["threshold_rule"] == "given"
    assert "normal mammograms" in content["note"]
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_intervals_come_from_patients_not_images():
    # two patients, p (two found) and q (one missed): a resample is pp (recall 1), pq (2/3) or qq (0)
    metrics = evaluate([found(1, "p"), found(2, "p"), missed(3, "q")], 0.5, "given", resamples=4000)
    assert metrics.intervals["recall"] == (0, 1)
    one = evaluate([found(1, "p"), missed(2, "p")], 0.5, "given", resamples=50)
    assert one.intervals["recall"] == (0.5, 0.5)


def test_interval_of_a_share_is_near_the_binomial_one():
    results = [found(n, str(n)) if n % 2 else missed(n, str(n)) for n in range(100)]
    low, high = evaluate(results, 0.5, "given", resamples=2000).intervals["recall"]
    half = 1.96 * math.sqrt(0.25 / 100)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.015)


def test_the_seed_decides_the_intervals():
    rng = np.random.default_rng(0)
    results = [(found if rng.random() < 0.7 else missed)(n, str(n)) for n in range(40)]
    first, again = (evaluate(results, 0.5, "given", resamples=200, seed=3) for _ in range(2))
    other = evaluate(results, 0.5, "given", resamples=200, seed=4)
    assert first == again
    assert first.intervals != other.intervals
    assert first.ap50 == other.ap50
    assert evaluate(results, 0.5, "given", resamples=0).intervals == {}


def test_boxes_a_little_off_count_at_low_ious_only():
    near = Box(0, 0, 10, 7)  # IoU 0.7: a hit at 0.5, 0.55, 0.6, 0.65 and 0.7
    metrics = evaluate([ImageResult(1, "p", (A,), (Finding(near, 0.9),))], 0.5, "given", resamples=5)
    assert metrics.ap50 == 1
    assert metrics.ap50_95 == pytest.approx(5 / 10)
    assert metrics.intervals["ap50_95"] == pytest.approx((0.5, 0.5))


def test_mean_sensitivity_is_that_of_the_froc_points():
    # four images, one hit after one false positive and one after six: 0.25 FPPI one lesion, 2 FPPI both
    alarms = tuple(Finding(NOWHERE, 0.9 - n / 100) for n in range(6))
    results = [
        ImageResult(1, "p", (A,), (*alarms[:1], Finding(A, 0.895))),
        ImageResult(2, "q", (A,), (*alarms[1:], Finding(A, 0.1))),
        ImageResult(3, "r", (), ()),
        ImageResult(4, "s", (), ()),
    ]
    metrics = evaluate(results, 0.5, "given")
    assert metrics.froc == {"0.25": 0.5, "0.5": 0.5, "1": 0.5, "2": 1}
    assert metrics.froc_means["froc"]["mean"] == pytest.approx(2.5 / 4)
    assert set(metrics.intervals) >= {"froc_mean", "froc_iou20_mean", "froc_centre_mean", "froc_centre_2", "ap50_area"}


def test_mean_sensitivity_by_the_conventions_of_the_field():
    # ten images with a lesion each; the k-th is found after k - 1 false positives more, all before at higher scores
    results = []
    for k in range(10):
        alarms = (Finding(NOWHERE, 0.9 - 0.02 * k),) * k
        results.append(ImageResult(k, str(k), (A,), (*alarms, Finding(A, 0.895 - 0.02 * k))))
    # after k lesions 0 + 1 + ... + (k - 1) false positives on ten images: 1, 3, 6, 10, 15, 21, 28, 36, 45
    metrics = evaluate(results, 0.5, "given", resamples=0)
    at = {0.125: 0.2, 0.25: 0.2, 0.5: 0.3, 1: 0.5, 2: 0.6, 3: 0.8, 4: 0.9, 8: 1.0}
    assert metrics.froc == pytest.approx({"0.25": at[0.25], "0.5": at[0.5], "1": at[1], "2": at[2]})
    assert metrics.froc_means["froc_iou10"] == pytest.approx(
        {
            "mean": (at[0.25] + at[0.5] + at[1] + at[2]) / 4,
            "cpm": (at[0.125] + at[0.25] + at[0.5] + at[1] + at[2] + at[4] + at[8]) / 7,
            "camelyon16": (at[0.25] + at[0.5] + at[1] + at[2] + at[4] + at[8]) / 6,
            "dbtex": (at[1] + at[2] + at[3] + at[4]) / 4,
        }
    )


def test_every_figure_has_an_interval():
    metrics = evaluate([found(1, "p"), missed(2, "q"), found(3, "r")], 0.25, "given", resamples=30)
    content = metrics.to_json()
    plain = {name for name, value in content.items() if isinstance(value, float)} - {"threshold", "iou"}
    counts = {"true_positives", "false_positives", "false_negatives"}
    rules = {
        f"{rule}_{key}" for rule in content["froc_means"] for key in (*content[rule], *content["froc_means"][rule])
    }
    kinds = {f"{what}_{kind}" for kind in content["errors"] for what in ("errors", "dap50")}
    bins = {f"reliability_{b['low']:g}" for b in content["reliability"] if b["n"]}
    assert set(metrics.intervals) == plain | counts | rules | kinds | bins


def test_undefined_figures_are_null():
    metrics = evaluate([ImageResult(1, "p", (), ())], 0.5, "given")
    content = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert content["ap50"] is None
    assert content["recall"] is None
    assert content["precision"] is None
    assert content["froc"]["1"] is None
    assert set(content["intervals"]) == {  # counts are defined: there is nothing
        "true_positives", "false_positives", "false_negatives", "fppi", "fppi_without_boxes", "errors_missed",
        "errors_localisation", "errors_duplicate", "errors_background",
    }  # fmt: skip
    assert content["fppi"] == content["fppi_without_boxes"] == 0
    assert content["auc_patient"] is None
    assert "undefined" in report_markdown(metrics)


def test_an_unreadable_image_counts_as_one_without_findings():
    unreadable = ImageResult(2, "q", (A,), (), unreadable="cannot be decoded")
    metrics = evaluate([found(1, "p"), unreadable], 0.5, "given")
    assert metrics.n_unreadable == 1
    assert metrics.n_images == 2
    assert metrics.recall == 0.5
    assert "image 2: cannot be decoded" in report_markdown(metrics, [found(1, "p"), unreadable])


def test_images_without_boxes_count_false_positives_and_drop_the_note():
    normals = [
        ImageResult(2, "q", (), (Finding(NOWHERE, 0.95),), laterality="L"),
        ImageResult(3, "r", (), (Finding(NOWHERE, 0.4),), laterality="L"),
    ]
    metrics = evaluate([replace(found(1, "p"), laterality="R"), *normals], 0.5, "given")
    assert metrics.froc["0.25"] == 0  # the false positive comes first: one on three images
    assert metrics.froc["0.5"] == 1
    assert metrics.n_images_without_boxes == 2
    assert metrics.fppi == pytest.approx(1 / 3)
    assert metrics.fppi_without_boxes == pytest.approx(1 / 2)
    assert metrics.intervals["fppi_without_boxes"] == (0, 1)
    assert metrics.note == ""


def test_the_report_names_the_figures_with_their_intervals():
    metrics = evaluate(
        [found(1, "p"), missed(2, "q")], 0.25, "chosen on validation", dataset="set", split="val", model="m"
    )
    text = report_markdown(metrics)
    assert metrics.intervals["f1"] == (0, 1)
    assert "| F1 | 0.500 | 0.0 to 1.0 |" in text  # as many decimals as 2,000 resamples carry of so wide an interval
    assert "0.25 or more (chosen on validation)" in text
    assert "set, split val: 2 images of 2 patients with 2 boxes" in text


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(EvaluationError, match="threshold"):
        evaluate([found(1, "p")], math.nan, "given")
