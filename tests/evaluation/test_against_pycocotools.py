"""Our AP beside pycocotools', the field's own, on random and awkward cases."""

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.evaluation import ImageResult, average_precision, evaluate, match
from mammoscope.findings import Box, Finding

pycocotools_coco = pytest.importorskip("pycocotools.coco")
pycocotools_eval = pytest.importorskip("pycocotools.cocoeval")


def coco_ap(results: list[ImageResult], *ious: float) -> float:
    """AP as pycocotools computes it; NaN for its -1."""
    truth = pycocotools_coco.COCO()
    marks = [
        (r.image_id, box, crowd) for r in results for crowd, boxes in ((0, r.truth), (1, r.crowds)) for box in boxes
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": r.image_id} for r in results],
        "categories": [{"id": 1, "name": "Mass"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": list(b.as_xywh()), "area": b.area, "iscrowd": crowd}
            for n, (i, b, crowd) in enumerate(marks, start=1)  # it takes the id 0 for no match
        ],
    }
    found = [
        {"image_id": r.image_id, "category_id": 1, "bbox": list(f.box.as_xywh()), "score": f.score}
        for r in results
        for f in r.candidates
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        detections = truth.loadRes(found) if found else pycocotools_coco.COCO()
        evaluation = pycocotools_eval.COCOeval(truth, detections, "bbox")
        evaluation.params.imgIds = sorted(r.image_id for r in results)
        evaluation.params.catIds = [1]
        evaluation.params.iouThrs = np.array(ious)
        if not found:
            detections.dataset = {"images": truth.dataset["images"], "annotations": []}
            detections.createIndex()
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 2]
    return float("nan") if (precision == -1).all() else float(precision.mean())


def assert_same(results: list[ImageResult]) -> None:
    for iou in (0.1, 0.2, 0.5):
        ours = average_precision(match(results, iou))[0]
        assert ours == pytest.approx(coco_ap(results, iou), abs=1e-6, nan_ok=True)
    ours = evaluate(results, 0.5, "given", resamples=0).ap50_95
    theirs = coco_ap(results, *pycocotools_eval.Params(iouType="bbox").iouThrs)
    assert (math.nan if ours is None else ours) == pytest.approx(theirs, abs=1e-6, nan_ok=True)


# few values on purpose: equal scores, equal IoUs and IoUs of exactly one half are the cases that go wrong
sides = st.integers(0, 12)
lengths = st.integers(1, 8)
boxes = st.builds(Box.from_xywh, sides, sides, lengths, lengths)
scores = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.5, 0.75, 0.9, 1.0])
images = st.tuples(
    st.lists(boxes, max_size=4), st.lists(st.builds(Finding, boxes, scores), max_size=8), st.lists(boxes, max_size=2)
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(images, min_size=1, max_size=5))
def test_random_cases(case):
    assert_same([ImageResult(n, str(n // 2), *map(tuple, parts)) for n, parts in enumerate(case)])


def shake(rng: np.random.Generator, box: Box) -> Box:
    x, y, width, height = box.as_xywh()
    aside, down = rng.uniform(-0.2, 0.2, 2)
    return Box.from_xywh(x + aside * width, y + down * height, *(np.array([width, height]) * rng.uniform(0.8, 1.25, 2)))


def test_realistic_case_with_more_than_a_hundred_candidates():
    rng = np.random.default_rng(5)
    results = []
    for image_id in range(60):
        truth = [Box.from_xywh(*rng.uniform(0, 600, 2), *rng.uniform(30, 200, 2)) for _ in range(rng.integers(0, 4))]
        shaken = [shake(rng, box) for box in truth for _ in range(2)]
        wrong = [Box.from_xywh(*rng.uniform(0, 600, 2), *rng.uniform(30, 200, 2)) for _ in range(rng.integers(0, 130))]
        found = [Finding(b, float(s)) for b, s in zip(shaken, rng.beta(6, 2, len(shaken)), strict=True)]
        found += [Finding(b, float(s)) for b, s in zip(wrong, rng.beta(1, 12, len(wrong)), strict=True)]
        results.append(ImageResult(image_id, str(image_id // 3), tuple(truth), tuple(found)))
    assert max(len(r.candidates) for r in results) > 100
    assert 0.2 < average_precision(match(results, 0.5))[0] < 0.95
    assert_same(results)


BOX = Box(0, 0, 10, 10)


@pytest.mark.parametrize(
    "results",
    [
        [ImageResult(3, "a", (BOX,), ())],
        [ImageResult(3, "a", (), (Finding(BOX, 0.5),))],
        [ImageResult(3, "a", (), ())],
        [ImageResult(3, "a", (BOX,), ()), ImageResult(4, "b", (), (Finding(BOX, 0.5),))],
        [ImageResult(3, "a", (), (Finding(BOX, 0.5),), crowds=(Box(0, 0, 100, 100),))],
        [ImageResult(3, "a", (BOX,), (Finding(BOX, 0.5), Finding(BOX, 0.5)), crowds=(Box(0, 0, 100, 100),))],
    ],
    ids=["no candidate", "no truth", "neither", "apart", "only crowd", "second on one lesion inside a crowd"],
)
def test_edges(results):
    assert_same(results)
