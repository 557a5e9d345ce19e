"""Two views of a breast read together: what is scored up, what down, and what is left alone."""

from dataclasses import replace

import numpy as np
import pytest

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import BreastExtent, Laterality, View, breast_extent
from mammoscope.inference import BreastView, Detector, TwoViews
from mammoscope.phantom import screening_study

WEIGHTS = TwoViews(intercept=0.8, own=1.0, other=0.5, fitted_on="the tests")
MODEL = Algorithm("model", "1")
NIPPLE_RIGHT, NIPPLE_LEFT = BreastExtent(nipple=400, chest_wall=0), BreastExtent(nipple=0, chest_wall=400)


def at_depth(depth: float, extent: BreastExtent, score: float, size: float = 40, label: str = "Mass") -> Finding:
    """A candidate so far behind the nipple, in pixels."""
    x = abs(extent.nipple - depth)
    return Finding(Box.from_xywh(x - size / 2, 100 - size / 2, size, size), score, label)


def reading(view: View, extent: BreastExtent | None, *candidates: Finding, threshold: float = 0.3, **more) -> Reading:
    found = tuple(c for c in candidates if c.score >= threshold)
    return Reading(
        name=f"{view}",
        status=ReadingStatus.FOUND if found else ReadingStatus.NOTHING_FOUND,
        findings=found,
        laterality=more.pop("laterality", Laterality.LEFT),
        view=view,
        algorithm=more.pop("algorithm", MODEL),
        threshold=threshold,
        candidates=candidates if extent else (),
        extent=extent,
        **more,
    )


def two_views_of_a_breast() -> tuple[Reading, Reading]:
    """One mass on both, at 0.25 and 0.6; one false candidate of 0.35 on the CC alone."""
    cc = reading(View.CC, NIPPLE_RIGHT, at_depth(330, NIPPLE_RIGHT, 0.35, size=20), at_depth(180, NIPPLE_RIGHT, 0.25))
    mlo = reading(View.MLO, NIPPLE_LEFT, at_depth(150, NIPPLE_LEFT, 0.6, size=38))
    return cc, mlo


def test_a_candidate_with_its_like_on_the_other_view_gains_and_one_without_loses():
    cc, mlo = two_views_of_a_breast()
    assert [f.score for f in cc.findings] == [0.35]
    together_cc, together_mlo = WEIGHTS.read_together([cc, mlo])

    [found] = together_cc.findings
    assert found.box == cc.candidates[1].box
    assert 0.3 < found.score < 0.6  # it was 0.25
    assert [f.box for f in together_mlo.findings] == [mlo.candidates[0].box]
    assert (together_cc.candidates, together_cc.extent) == ((), None)


def test_the_new_score_is_the_formula_of_the_docs():
    here = BreastView(View.CC, (at_depth(180, NIPPLE_RIGHT, 0.25),), NIPPLE_RIGHT)
    there = BreastView(View.MLO, (at_depth(150, NIPPLE_LEFT, 0.6, size=38),), NIPPLE_LEFT)
    depth = (180 / 400 - 150 / 400 - WEIGHTS.depth_offset) / WEIGHTS.depth_spread
    size = (np.log(40 / 38) - WEIGHTS.size_offset) / WEIGHTS.size_spread
    support = 0.6 * np.exp(-(depth**2 + size**2) / 2)
    odds = 0.8 + np.log(0.25 / 0.75) + 0.5 * np.log(0.02 + support)
    assert WEIGHTS.scores(here, there) == pytest.approx([1 / (1 + np.exp(-odds))])


def test_another_class_is_no_support_and_an_empty_other_view_takes_some():
    mass = BreastView(View.CC, (at_depth(100, NIPPLE_RIGHT, 0.5),), NIPPLE_RIGHT)
    other = BreastView(View.MLO, (at_depth(80, NIPPLE_LEFT, 0.9, label="Calcification"),), NIPPLE_LEFT)
    empty = BreastView(View.MLO, (), NIPPLE_LEFT)
    assert WEIGHTS.scores(mass, other) == pytest.approx(WEIGHTS.scores(mass, empty))
    assert WEIGHTS.scores(mass, empty) < 0.5
    assert WEIGHTS.scores(empty, mass).shape == (0,)


@pytest.mark.parametrize(
    "change",
    [
        lambda cc, _mlo: [cc],
        lambda cc, mlo: [cc, replace(mlo, laterality=Laterality.RIGHT)],
        lambda cc, mlo: [cc, mlo, replace(mlo, name="again")],
        lambda cc, mlo: [cc, replace(mlo, algorithm=Algorithm("model", "2"))],
        lambda cc, mlo: [cc, replace(mlo, extent=None, candidates=())],
        lambda cc, _mlo: [cc, Reading.not_processed("MLO", "Damaged.", laterality=Laterality.LEFT, view=View.MLO)],
    ],
    ids=["one view", "other breast", "two MLO views", "another model", "no extent", "not read"],
)
def test_a_view_without_its_only_other_stays_as_it_was(change):
    readings = change(*two_views_of_a_breast())
    for before, after in zip(readings, WEIGHTS.read_together(readings), strict=True):
        assert after == replace(before, candidates=(), extent=None)


def test_a_reading_that_waits_for_the_other_view_survives_json():
    for one in (*two_views_of_a_breast(), reading(View.CC, NIPPLE_LEFT), reading(View.CC, None)):
        assert Reading.from_json(one.to_json()) == one
    assert "candidates" not in reading(View.CC, None).to_json()


@pytest.mark.parametrize(
    "wrong", [{"own": -1.0}, {"other": 0.0}, {"floor": 0.0}, {"intercept": float("nan")}, {"own": 1e6}]
)
def test_weights_that_nobody_fitted_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"greater than|finite|100"):
        TwoViews.model_validate(WEIGHTS.model_dump() | wrong)


def test_the_nipple_is_where_the_breast_comes_to_a_point():
    mask = np.zeros((256, 160), bool)
    for column in range(100):
        mask[128 - (110 - column) : 128 + (110 - column), column] = True
    assert breast_extent(mask, 1600) == BreastExtent(nipple=1000, chest_wall=0)
    assert breast_extent(mask[:, ::-1], 1600) == BreastExtent(nipple=600, chest_wall=1600)
    assert breast_extent(np.ones((256, 160), bool), 1600) is None
    assert breast_extent(np.zeros((256, 160), bool), 1600) is None


def test_the_shipped_model_reads_a_study_together_and_one_view_as_ever(tmp_path):
    from mammoscope.library import Detector as PublicDetector
    from mammoscope.library import read_mammogram

    files = screening_study(1, masses=1, rows=400, columns=300).save(tmp_path)
    images = [read_mammogram(file) for file in files]
    detector = PublicDetector(threads=1)
    assert detector.two_views is not None
    alone, together = [detector.read(image, 0.001) for image in images], detector.read_study(images, 0.001)
    assert detector.read_study(images[:1], 0.001) == [alone[0]]
    assert {(f"{r.laterality}{r.view}") for r in together} == {"LCC", "LMLO", "RCC", "RMLO"}
    changed = [a.scores.tolist() != b.scores.tolist() for a, b in zip(alone, together, strict=True) if len(a.scores)]
    assert changed
    assert all(changed)
    assert all(not one.candidates for one in together)
    spot = replace(images[0], view_modifiers=("spot compression",))
    assert Detector(threads=1).read(spot, keep_candidates=True).extent is None
