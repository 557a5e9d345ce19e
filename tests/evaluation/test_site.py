import numpy as np
import pytest

from mammoscope.evaluation.site import (
    SiteError,
    SiteImage,
    by_group,
    drifts,
    group_at,
    lesion_scores,
    threshold_for_marks,
    threshold_for_sensitivity,
)
from mammoscope.findings import Box, Finding


def image(study: str, scores: list[float], lesions: list[float] | None = None, **more: object) -> SiteImage:
    groups = {"scanner": str(more.pop("scanner", "Acme"))}
    found = None if lesions is None else np.array(lesions)
    return SiteImage(study, groups, np.array(scores), lesions=found, **more)


FOUR = [image("1", [0.9, 0.4]), image("1", [0.2]), image("2", [0.6, 0.5, 0.1]), image("3", [])]


def test_what_each_threshold_marks() -> None:
    group = group_at("all", FOUR, [0.15, 0.5, 0.95])
    assert (group.studies, group.images, group.lesions) == (3, 4, 0)
    assert [at.marks for at in group.at] == [5, 3, 0]
    assert [at.marks_per_image for at in group.at] == [1.25, 0.75, 0]
    assert [at.images_marked for at in group.at] == [0.75, 0.5, 0]
    assert [at.studies_marked for at in group.at] == pytest.approx([2 / 3, 2 / 3, 0])
    assert [at.sensitivity for at in group.at] == [None] * 3


def test_groups_and_what_is_not_known() -> None:
    images = [*FOUR, image("4", [0.8], scanner="", complete_from=0.5)]
    acme, unknown = by_group("scanner", images, [0.3, 0.5])
    assert (acme.name, unknown.name) == ("Acme", "unknown")
    assert [at.complete for at in unknown.at] == [False, True]
    assert [at.complete for at in acme.at] == [True, True]


@pytest.mark.parametrize(
    ("wanted", "threshold"), [(0.25, 0.9), (0.3, 0.9), (0.5, 0.6), (0.75, 0.5), (1.5, 0.1), (9, 0.1), (0, 1.0)]
)
def test_the_lowest_threshold_with_no_more_marks_than_wanted(wanted: float, threshold: float) -> None:
    chosen = threshold_for_marks(FOUR, wanted)
    assert chosen.threshold == threshold
    assert chosen.reached <= wanted
    assert chosen.interval is None  # of three studies


def test_equal_scores_are_marked_together() -> None:
    assert threshold_for_marks([image("1", [0.9, 0.5, 0.5])], 2).threshold == 0.9


def test_the_interval_is_that_of_the_bootstrap_over_studies() -> None:
    rng = np.random.default_rng(1)
    images = [image(str(study), sorted(rng.random(5))) for study in range(200) for _ in range(4)]
    chosen = threshold_for_marks(images, 1.0)
    assert chosen.threshold == pytest.approx(0.8, abs=0.03)
    low, high = chosen.interval or (0, 0)
    # The share of 4,000 uniform scores above the threshold: a standard error of sqrt(0.2 * 0.8 / 4000) = 0.0063.
    assert high - low == pytest.approx(4 * 0.0063, rel=0.3)
    assert low < chosen.threshold < high


def test_what_was_not_kept_chooses_nothing() -> None:
    with pytest.raises(SiteError, match=r"a threshold below 0\.7"):
        threshold_for_marks([image("1", [0.9, 0.8], complete_from=0.7), image("2", [0.5, 0.4, 0.3])], 2)
    with pytest.raises(SiteError, match="no image was read"):
        threshold_for_marks([], 1)


def test_the_threshold_for_a_sensitivity() -> None:
    images = [image("1", [0.9], [0.9]), image("2", [0.6], [0.6, 0.55]), image("3", [0.3], [0.3, -np.inf]), *FOUR]
    chosen = threshold_for_sensitivity(images, 0.6)
    assert (chosen.threshold, chosen.reached, chosen.lesions, chosen.images) == (0.55, 0.6, 5, 3)
    assert threshold_for_sensitivity(images, 0.8).threshold == 0.3
    with pytest.raises(SiteError, match="of 5 confirmed lesions the model proposed 4 at all"):
        threshold_for_sensitivity(images, 0.9)
    with pytest.raises(SiteError, match="no lesion was confirmed"):
        threshold_for_sensitivity(FOUR, 0.9)


def test_a_lesion_has_the_score_of_the_candidate_that_finds_it() -> None:
    truth = [Box(0, 0, 10, 10), Box(50, 50, 60, 60)]
    candidates = [Finding(Box(0, 0, 10, 9), 0.4), Finding(Box(0, 0, 10, 8), 0.7), Finding(Box(56, 56, 66, 66), 0.9)]
    assert lesion_scores(candidates, truth).tolist() == [0.7, -np.inf]
    assert lesion_scores([], []).tolist() == []


def test_a_month_that_differs_is_told() -> None:
    months = [("2026-01", 200, 100), ("2026-02", 50, 100), ("2026-03", 200, 300), ("2026-04", 200, 150)]
    [told] = drifts(months[:3], "marks")
    assert told == "2026-03: 1.50 marks an image, after 0.80 before: look at what changed."
