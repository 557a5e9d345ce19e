"""The soak of `benchmarks/soak.py`, small; and its judge, who must see what is planted."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pydicom import Dataset

MOST_MEGABYTES = 500
"""Of the node's own process, whatever it is sent."""


@pytest.fixture
def soak(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("soak")


def test_sixty_objects_three_kills(soak: ModuleType, tmp_path: Path) -> None:
    plan = soak.Plan(objects=60, kills=3, seed=7, seconds_between_kills=4.0, still_seconds=300.0)
    story = soak.Soak(plan, tmp_path).run()
    verdict = soak.judge(story)
    assert len(story.kills) == 3
    assert story.acknowledged == {image.uid for image in story.images}
    assert len(story.images) == 60
    assert story.leaks == []
    assert story.exit_codes == [0]
    assert max(story.megabytes) < MOST_MEGABYTES
    assert verdict.lost == verdict.unanswered == verdict.twice == verdict.out_of_place == ()


def test_it_waits_for_as_long_as_anything_moves_and_no_longer(soak: ModuleType) -> None:
    steps = iter(range(100))
    soak.wait_while_it_moves(lambda: next(steps) == 31, lambda: next(steps), "thirty", 0.05, 0.01)
    with pytest.raises(TimeoutError, match=r"nothing moved for 0 s, .*: never"):
        soak.wait_while_it_moves(lambda: False, lambda: 1, "never", 0.05, 0.01)


# The judge --------------------------------------------------------------------------------------------------------

DRAWN = (10.0, 20.0, 30.0, 40.0)


@pytest.fixture
def story(soak: ModuleType):
    """Two images of one study, acknowledged; a report of the first, then one of both."""
    images = [
        soak.SmallMammogram(Path("a"), "1.2", "1.2.1", DRAWN),
        soak.SmallMammogram(Path("b"), "1.2", "1.2.2", None),
    ]
    visit = sys.modules["node_under_test"].Visit(opened=100.0, released=101.0)
    told = soak.Story(images, acknowledged={"1.2.1", "1.2.2"})
    told.arrivals = [
        soak.Arrival(100.1, "9.1", "sr", "x", visit, report("100001", ["1.2.1"], {"1.2.1": DRAWN})),
        soak.Arrival(100.2, "9.2", "sr", "y", visit, report("100002", ["1.2.1", "1.2.2"], {"1.2.1": DRAWN})),
        soak.Arrival(100.3, "9.3", "pr", "z", visit),
    ]
    return told


def report(time: str, images: list[str], marks: dict[str, tuple[float, ...]]) -> Dataset:
    """As much of a CAD SR as the judge reads: child n of the root is image n, and the outlines follow."""
    root = Dataset()
    root.StudyInstanceUID, root.ContentDate, root.ContentTime = "1.2", "20260101", time
    references, root.ContentSequence = [], []
    for uid in images:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = uid
        references.append(reference)
        image = Dataset()
        image.ValueType, image.ReferencedSOPSequence = "IMAGE", [reference]
        root.ContentSequence.append(image)
    for uid, (x0, y0, x1, y1) in marks.items():
        name, outline, selected = Dataset(), Dataset(), Dataset()
        name.CodeValue = "111041"
        selected.ReferencedContentItemIdentifier = [1, images.index(uid) + 1]
        outline.ValueType, outline.ConceptNameCodeSequence = "SCOORD", [name]
        outline.GraphicData = [x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]
        outline.ContentSequence = [selected]
        root.ContentSequence.append(outline)
    series, study = Dataset(), Dataset()
    series.ReferencedSOPSequence = references
    study.ReferencedSeriesSequence = [series]
    root.CurrentRequestedProcedureEvidenceSequence = [study]
    return root


def again(soak: ModuleType, story, at: float, digest: str = "z", **visit: float) -> None:
    visit = {"opened": at - 0.1, **visit}
    story.arrivals.append(soak.Arrival(at, "9.3", "pr", digest, sys.modules["node_under_test"].Visit(**visit)))


def test_all_is_well(soak: ModuleType, story) -> None:
    assert soak.judge(story) == soak.Verdict((), (), (), (), excused=0)


def test_an_image_that_no_last_report_refers_to_is_lost(soak: ModuleType, story) -> None:
    del story.arrivals[1]
    assert soak.judge(story).lost == ("1.2.2",)


def test_an_image_that_was_not_acknowledged_cannot_be_lost(soak: ModuleType, story) -> None:
    del story.arrivals[1]
    story.acknowledged.remove("1.2.2")
    assert soak.judge(story).lost == ()


def test_a_study_without_a_report_is_unanswered(soak: ModuleType, story) -> None:
    del story.arrivals[:2]
    assert soak.judge(story).unanswered == ("1.2",)


def test_two_reports_of_the_same_images_are_one_too_many(soak: ModuleType, story) -> None:
    visit = story.arrivals[0].visit
    same = report("100003", ["1.2.2", "1.2.1"], {"1.2.1": DRAWN})
    story.arrivals.append(soak.Arrival(100.4, "9.4", "sr", "w", visit, same))
    assert soak.judge(story).twice == ("study 1.2: two reports of the same 2 images",)


def test_the_same_uid_with_other_content_is_told_whatever_happened(soak: ModuleType, story) -> None:
    story.kills = [100.5]
    again(soak, story, 102.0, digest="other")
    assert soak.judge(story).twice == ("object 9.3: stored with two contents",)


def test_an_object_that_comes_again_is_told(soak: ModuleType, story) -> None:
    again(soak, story, 104.3)
    assert soak.judge(story).twice == ("object 9.3: stored again 4.0 s later",)


@pytest.mark.parametrize(
    ("kill", "excused"),
    [(99.9, 0), (100.0, 1), (103.0, 1), (103.1, 0)],
    ids=["before the association", "while it was open", "two seconds after its release", "later"],
)
def test_a_kill_excuses_only_what_it_may_have_made_the_node_forget(
    soak: ModuleType, story, kill: float, excused: int
) -> None:
    story.kills = [kill]
    again(soak, story, 104.3)
    verdict = soak.judge(story)
    assert (verdict.excused, len(verdict.twice)) == (excused, 1 - excused)


@pytest.mark.parametrize(("after", "excused"), [(0, 1), (1, 0)], ids=["the last object", "not the last"])
def test_a_broken_association_excuses_its_last_object_only(soak: ModuleType, story, after: int, excused: int) -> None:
    visit = story.arrivals[0].visit
    visit.released, visit.broken = None, 101.0
    story.arrivals += [soak.Arrival(100.4, f"8.{n}", "pr", "v", visit) for n in range(after)]
    again(soak, story, 104.3)
    verdict = soak.judge(story)
    assert (verdict.excused, len(verdict.twice)) == (excused, 1 - excused)


@pytest.mark.parametrize(
    ("marks", "fault"),
    [
        ({}, "image 1.2.1: 0 marks, 1 drawn"),
        ({"1.2.1": DRAWN, "1.2.2": DRAWN}, "image 1.2.2: 1 marks, 0 drawn"),
        ({"1.2.1": (10.0, 20.0, 30.0, 41.0)}, f"image 1.2.1: marked at (10.0, 20.0, 30.0, 41.0), drawn at {DRAWN}"),
    ],
)
def test_a_mark_out_of_place_is_told(soak: ModuleType, story, marks: dict[str, tuple[float, ...]], fault: str) -> None:
    made = report("100002", ["1.2.1", "1.2.2"], marks)
    story.arrivals[1] = soak.Arrival(100.2, "9.2", "sr", "y", story.arrivals[1].visit, made)
    assert soak.judge(story).out_of_place == (fault,)
