"""The site's figures: thresholds with their intervals, drift with its alarm, and the same for Prometheus."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mammoscope.evaluation.matching import EvaluationError, ImageResult
from mammoscope.evaluation.operating_points import drift_distance, has_drifted, operating_point
from mammoscope.findings import Box, Finding
from mammoscope.review import ReviewStore
from mammoscope.review.figures import DRIFT_IMAGES, SCORE, Group, drifts_of, site_figures
from mammoscope.review.metrics import ReviewMetrics
from mammoscope.review.pages.rendering import page
from mammoscope.review.statistics import image_statistics
from mammoscope.review.store import (
    ActionKind,
    ImageFacts,
    Origin,
    ProposedBox,
    ReadState,
    SourceImage,
    SourceStudy,
)

MASS, ELSEWHERE = Box(10, 10, 110, 110), Box(300, 300, 360, 360)
FRAME = {"title": "", "session": None}


def images(hits: list[float | None], false: list[list[float]]) -> list[ImageResult]:
    """Each of another patient, with a lesion that is proposed with that score or not, and other boxes' scores."""
    return [
        ImageResult(
            number,
            f"p{number}",
            (MASS,),
            (
                *([Finding(MASS, hit)] if hit is not None else []),
                *(Finding(ELSEWHERE, score) for score in others),
            ),
        )
        for number, (hit, others) in enumerate(zip(hits, false, strict=True))
    ]


def test_the_lowest_threshold_that_a_site_would_bear_by_hand():
    results = images([0.9, 0.8, 0.5, None], [[0.7], [0.6], [0.4], []])
    # By falling score: hit 0.9, hit 0.8, false 0.7, false 0.6, hit 0.5, false 0.4.
    point = operating_point(results, 0.25, resamples=200)
    assert (point.threshold, point.sensitivity, point.false_positives) == (pytest.approx(0.65), 0.5, 0.25)
    point = operating_point(results, 0.5, resamples=200)
    assert (point.threshold, point.sensitivity, point.false_positives) == (pytest.approx(0.45), 0.75, 0.5)
    assert operating_point(results, 0.0, resamples=200).threshold == pytest.approx(0.75)
    worst = images([0.5], [[0.9]])
    assert operating_point(worst, 0.0, resamples=10).threshold == 1.0  # even the best score is one too many
    with pytest.raises(EvaluationError, match="nothing was proposed"):
        operating_point(images([None], [[]]), 0.5)


def test_the_interval_of_a_threshold_holds_the_truth_as_often_as_it_says():
    # False positives of uniform scores, one an image: at most 0.5 an image are those above 0.5.
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(60):
        scores = rng.random((2, 80))
        point = operating_point(
            images(list(scores[0]), [[score] for score in scores[1]]), 0.5, resamples=200, seed=int(rng.integers(99))
        )
        assert point.threshold_interval is not None
        low, high = point.threshold_interval
        assert low <= point.threshold <= high
        held += low <= 0.5 <= high
    assert 51 <= held <= 60  # 95 % of 60 are 57


def test_a_distance_is_that_of_the_definition_and_an_alarm_needs_more_than_chance():
    assert drift_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert drift_distance([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
    assert drift_distance([1, 2], [5, 6]) == 1
    assert drift_distance([], [1]) is None
    rng = np.random.default_rng(1)
    alike = [has_drifted(rng.normal(size=300), rng.normal(size=120)) for _ in range(200)]
    assert sum(alike) <= 1
    assert has_drifted(rng.normal(size=300), rng.normal(1, size=120))
    assert not has_drifted([0.0] * 5, [1.0] * 5)  # too few to say


def facts(month: str, mean: float, count: int = DRIFT_IMAGES) -> list[ImageFacts]:
    rng = np.random.default_rng(len(month) + count)
    return [
        ImageFacts("scanner", month, 1, (float(score), float(grey), None, 0.3))
        for score, grey in zip(rng.random(count), rng.normal(mean, 0.05, count), strict=True)
    ]


def test_the_latest_month_is_compared_with_all_before():
    told = {drift.statistic: drift for drift in drifts_of([*facts("2026-01", 0.4, 150), *facts("2026-02", 0.6)])}
    assert told.keys() == {SCORE, "mean grey", "breast share"}
    assert (told["mean grey"].month, told["mean grey"].alarm) == ("2026-02", True)
    assert "2026-02: the images' mean grey is distributed otherwise" in told["mean grey"].sentence
    assert not told[SCORE].alarm
    assert (
        drifts_of([*facts("2026-01", 0.4, 150), *facts("2026-02", 0.6, 50)]) == ()
    )  # nothing before the last full one
    assert drifts_of(facts("2026-01", 0.4)) == ()


def test_an_image_is_measured_by_its_breast():
    dark, bright = np.zeros((400, 300), np.uint16), np.zeros((400, 300), np.uint16)
    dark[50:350, :150], bright[50:350, :150] = 20000, 40000
    one, other = image_statistics(dark), image_statistics(bright)
    assert one.mean_grey == pytest.approx(20000 / 65535, abs=0.02)
    assert other.mean_grey == pytest.approx(40000 / 65535, abs=0.03)
    assert one.breast_share == pytest.approx(300 * 150 / (400 * 300), abs=0.03)
    assert one.contrast < 0.05


def a_site(folder: Path) -> ReviewStore:
    """Thirty studies of one image: a mass that is proposed, and a false box that readers reject on each third."""
    store = ReviewStore(folder)
    boxes = (
        ProposedBox(Origin.MODEL, MASS.as_tuple(), "Mass", 0.9),
        ProposedBox(Origin.MODEL, ELSEWHERE.as_tuple(), "Mass", 0.4),
    )
    studies = []
    for number in range(30):
        found = tuple(
            replace(box, score=round(box.score - number / 1000, 4)) for box in boxes[: 2 if number % 3 == 0 else 1]
        )
        image = SourceImage(f"i{number}", folder / "none.dcm", rows=1000, columns=1000, proposals=found)
        came = datetime(2026, 1 + number % 2, 5, tzinfo=UTC)
        studies.append(SourceStudy(f"s{number}", f"p{number}", came, (image,), "1", scanner=f"maker {number % 2}"))
    store.put(studies)
    for row in store.worklist(limit=100).rows:
        [image] = store.images(row.id)
        for number, mark in enumerate(store.marks(row.id, "Anna")[image.id][1]):
            kind = ActionKind.ACCEPT if mark.score > 0.5 else ActionKind.REJECT
            store.act(
                image.id, "Anna", expected=number, token=f"{image.id}-{number}", kind=kind, mark=mark.id, content={}
            )
        store.finish(row.id, "Anna", ReadState.DONE)
    return store


def test_the_figures_of_a_site_and_of_its_page_of_metrics(tmp_path: Path):
    store = a_site(tmp_path)
    figures = site_figures(store)
    assert (figures.total.images, figures.total.accepted, figures.total.rejected) == (30, 30, 10)
    assert figures.intake.findings_per_image == pytest.approx(40 / 30)
    point = figures.thresholds[0.1]
    assert 0.37 < point.threshold <= 0.4
    assert point.sensitivity == 1
    assert point.false_positives <= 0.1
    assert point.threshold_interval is not None
    [image] = store.images(1)
    assert store.unmeasured() is not None
    store.note_statistics(image.id, (0.5, 0.1, 0.3))
    assert (0.9, 0.5, 0.1, 0.3) in {fact.statistics for fact in store.image_facts()}
    registry = CollectorRegistry()
    metrics = ReviewMetrics(store)
    registry.register(metrics)
    metrics.work_out()
    page = generate_latest(registry).decode()
    assert 'mammoscope_review_studies{progress="read"} 30.0' in page
    assert 'mammoscope_review_images{scanner="maker 0"} 15.0' in page
    assert f'mammoscope_review_false_positives_per_image{{scanner="maker 0"}} {5 / 15}' in page
    assert 'mammoscope_review_acceptance_ratio{scanner="maker 1"} 0.75' in page


def test_boxes_that_a_data_set_came_with_are_counted_by_themselves(tmp_path: Path):
    store = ReviewStore(tmp_path)
    far, beside = (500.0, 500.0, 560.0, 560.0), (700.0, 100.0, 760.0, 160.0)
    boxes = (
        ProposedBox(Origin.ANNOTATION, MASS.as_tuple(), "Mass"),
        ProposedBox(Origin.ANNOTATION, far, "Mass"),
        ProposedBox(Origin.ANNOTATION, beside, "Mass"),
        ProposedBox(Origin.MODEL, (12.0, 12.0, 108.0, 108.0), "Mass", 0.9),
        ProposedBox(Origin.MODEL, ELSEWHERE.as_tuple(), "Mass", 0.3),
    )
    image = SourceImage("image", Path("/nowhere.png"), rows=1000, columns=1000, proposals=boxes)
    store.put([SourceStudy("study", "p", datetime(2026, 1, 2, tzinfo=UTC), (image,), "1")])
    named = {mark.box.as_tuple(): mark.id for mark in store.marks(1, "Anna")[1][1]}
    for number, box in enumerate((beside, ELSEWHERE.as_tuple())):
        store.act(
            1, "Anna", expected=number, token=str(number), kind=ActionKind.REJECT, mark=named[box], content={}
        )  # fmt: skip
    store.finish(1, "Anna", ReadState.DONE)
    figures = site_figures(store, ())
    total = figures.total
    assert (total.proposed, total.accepted, total.rejected, total.missed) == (2, 1, 1, 0)
    assert (total.annotated, total.annotated_accepted, total.annotated_rejected, total.not_proposed) == (3, 2, 1, 1)
    assert (total.sensitivity, total.acceptance) == (0.5, 0.5)  # one of the two lesions was proposed
    assert (figures.intake.findings, figures.intake.annotated) == (2, 3)
    # Without a detector there is nothing to be said of one.
    only = Group("all").with_image([mark for mark in store.truth(1).marks[1] if mark.origin is Origin.ANNOTATION])
    assert (only.annotated, only.sensitivity) == (3, None)
    page_of = page("figures.html", **FRAME, figures=figures, agreement=store.agreement())
    assert '<th scope="col">In the data set</th><th scope="col">of them accepted</th>' in page_of
    assert "<td>50%</td><td>3</td><td>2</td><td>1</td><td>1</td></tr>" in "".join(page_of.split())
