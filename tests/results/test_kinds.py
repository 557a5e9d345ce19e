"""What a study gets of each kind, what a destination gets of that, and what a report says of the one it replaces."""

import copy
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.results import ReadMammogram, ResultError, study_results, verify_against_reading
from mammoscope.results.verification import concept_value, content_items
from mammoscope.settings import ResultKind

EVERY_KIND = tuple(kind for kind in ResultKind if kind is not ResultKind.REJECTION_NOTE)  # of a first report


def kinds_of(results):
    return [str(result.kind) for result in results]


def written(dataset):
    with BytesIO() as buffer:
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


@pytest.fixture(scope="module")
def everything(four_views, algorithm, now):
    return study_results(four_views, algorithm, kinds=EVERY_KIND, now=now)


def test_every_kind_has_a_series_of_its_own(everything):
    assert kinds_of(everything.results) == [
        "cad-sr",
        "ai-sr",
        *["presentation-state"] * 3,
        "sheet",
        "colour-sheet",
        *["image-capture"] * 4,
        *["colour-image-capture"] * 4,
        *["segmentation"] * 3,
    ]
    series = {(r.kind, r.dataset.SeriesInstanceUID, r.dataset.SeriesNumber) for r in everything.results}
    assert len(series) == len({uid for _, uid, _ in series}) == len({number for _, _, number in series}) == 8
    assert len({result.dataset.SOPInstanceUID for result in everything.results}) == 18
    assert everything.problems == ()


def test_every_object_says_what_it_is_not_for(everything):
    for dataset in everything.objects:
        assert dataset.ContentQualification == "RESEARCH"
        assert "research use only" in dataset.SeriesDescription
        assert list(dataset.SoftwareVersions)[1] == "mammoscope-test 1.2.0"
        assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20260103", "080910")


def test_made_twice_in_another_order_every_kind_has_the_same_bytes(everything, four_views, algorithm, now):
    again = study_results(four_views[::-1], algorithm, kinds=EVERY_KIND, now=now)
    assert [written(a) == written(b) for a, b in zip(everything.objects, again.objects, strict=True)] == [True] * 18


def test_a_destination_gets_the_kinds_it_asked_for_in_its_order(everything):
    asked = everything.of((ResultKind.SHEET, ResultKind.CAD_SR))
    assert kinds_of(asked) == ["sheet", "cad-sr"]
    assert everything.of(()) == ()


def test_only_what_is_asked_for_is_made(four_views, algorithm):
    made = study_results(four_views, algorithm, kinds=(ResultKind.AI_SR, ResultKind.AI_SR))
    assert kinds_of(made.results) == ["ai-sr"]
    assert [reference.kind for reference in made.references] == [ResultKind.AI_SR]
    assert made.references[0].images == ("2.25.10001", "2.25.10002", "2.25.10003", "2.25.10004")
    assert made.references[0].sop_instance == made.objects[0].SOPInstanceUID


def test_where_nothing_asked_for_can_be_made_it_says_why(make_image, algorithm):
    other = make_image(SOPClassUID=ComputedRadiographyImageStorage)
    with pytest.raises(ResultError, match=r"asked for \(cad-sr\) none can be made: a Computed Radiography"):
        study_results([other], algorithm, kinds=(ResultKind.CAD_SR,))
    with pytest.raises(ResultError, match=r"none can be made: there are no findings"):
        study_results([make_image()], algorithm, kinds=(ResultKind.PRESENTATION_STATE,))
    assert kinds_of(study_results([other], algorithm).results) == ["ai-sr", "colour-sheet"]


def test_an_object_that_cannot_be_made_is_named_and_costs_no_other(make_image, algorithm):
    bad = make_image("L", number=2, findings=[((500, 500, 600, 600), 0.5)])
    made = study_results([make_image(findings=[((1, 1, 9, 9), 0.5)]), bad], algorithm, kinds=EVERY_KIND)
    count = {kind: kinds_of(made.results).count(kind) for kind in EVERY_KIND}
    assert count == {
        "cad-sr": 1, "ai-sr": 1, "presentation-state": 1, "segmentation": 1,
        "sheet": 1, "colour-sheet": 1, "image-capture": 2, "colour-image-capture": 2,
    }  # fmt: skip
    assert [problem.split(" could not")[0] for problem in made.problems] == [
        "The CAD report", "The CAD report with image-2 alone",
        "The AI report", "The AI report with image-2 alone",
        "The presentation state of image-2", "The segmentation of image-2",
    ]  # fmt: skip


def changed(image, box, score=0.5):
    finding = (Finding(Box(*box), score),)
    return ReadMammogram(image.mammogram, Reading(image.mammogram.name, ReadingStatus.FOUND, finding, threshold=0.25))


@pytest.fixture(scope="module")
def late(four_views, algorithm, now):
    """A report of three views, then one of all four that replaces it."""
    first = study_results(four_views[:3], algorithm, kinds=EVERY_KIND, now=now)
    return first, study_results(four_views, algorithm, kinds=EVERY_KIND, supersedes=first.references, now=now)


def predecessors(dataset):
    return [
        (study.StudyInstanceUID, series.SeriesInstanceUID, item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for study in dataset.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


@pytest.mark.parametrize("kind", [ResultKind.CAD_SR, ResultKind.AI_SR])
def test_a_report_names_the_report_it_replaces(late, kind):
    first, second = (next(r.dataset for r in results.of((kind,))) for results in late)
    assert predecessors(first) == []
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert predecessors(second) == [
        (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    ]


def test_what_a_late_view_does_not_change_stays_the_same_object(late):
    first, second = late
    per_image = (ResultKind.PRESENTATION_STATE, ResultKind.SEGMENTATION, ResultKind.IMAGE_CAPTURE)
    before = {result.dataset.SOPInstanceUID: written(result.dataset) for result in first.of(per_image)}
    after = {result.dataset.SOPInstanceUID: written(result.dataset) for result in second.of(per_image)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3


def test_a_sheet_says_that_it_replaces_another(late):
    first, second = (next(r.dataset for r in results.of((ResultKind.SHEET,))) for results in late)
    assert "Replaces" not in first.DerivationDescription
    assert second.DerivationDescription.startswith("Replaces the earlier report of this study; ")


def test_other_marks_on_an_image_say_that_they_replace_the_earlier_ones(four_views, algorithm):
    kinds = (ResultKind.PRESENTATION_STATE, ResultKind.SEGMENTATION)
    first = study_results(four_views, algorithm, kinds=kinds)
    moved = [changed(four_views[0], (10, 10, 30, 30)), changed(four_views[1], (5, 5, 25, 25)), *four_views[2:]]
    again = study_results(moved, algorithm, kinds=kinds, supersedes=first.references)
    said = [result.dataset.ContentDescription.split(",")[0] for result in again.results]
    # The second image had no marks to replace, the third and fourth are as they were.
    assert said == ["Replaces earlier marks", "Marks", "Marks", "Marks", "Replaces earlier boxes", *["Boxes"] * 3]


def test_the_same_report_again_replaces_nothing(four_views, algorithm, now):
    first = study_results(four_views, algorithm, kinds=EVERY_KIND, now=now)
    again = study_results(four_views, algorithm, kinds=EVERY_KIND, supersedes=first.references, now=now)
    assert [written(a) == written(b) for a, b in zip(first.objects, again.objects, strict=True)] == [True] * 18


def test_a_report_that_replaced_another_comes_again_as_it_was(late, four_views, algorithm, now):
    first, second = late
    history = (*first.references, *second.references)
    again = study_results(four_views, algorithm, kinds=EVERY_KIND, supersedes=history, now=now)
    assert [written(a) == written(b) for a, b in zip(second.objects, again.objects, strict=True)] == [True] * 18
    newer = study_results(four_views, Algorithm("newer", "1"), kinds=(ResultKind.CAD_SR,), supersedes=history, now=now)
    [(_, _, _, named)] = predecessors(newer.objects[0])
    assert named == second.objects[0].SOPInstanceUID


def test_a_newer_model_replaces_the_report_of_the_older(four_views, algorithm):
    older = study_results(four_views, algorithm, kinds=(ResultKind.CAD_SR,))
    newer = study_results(
        four_views, Algorithm(algorithm.name, "2"), kinds=(ResultKind.CAD_SR,), supersedes=older.references
    )
    [(_, series, _, instance)] = predecessors(newer.objects[0])
    assert (series, instance) == (older.objects[0].SeriesInstanceUID, older.objects[0].SOPInstanceUID)
    assert series != newer.objects[0].SeriesInstanceUID


def shift_region(dataset):
    shift_outline(dataset, "111030")


def shift_outline_of_measurement(dataset):
    shift_outline(dataset, "121112")


def shift_outline(dataset, concept):
    outline = next(item for item in content_items(dataset) if concept_value(item) == concept)
    outline.GraphicData = [value + 0.6 for value in outline.GraphicData]


def lose_a_column(dataset):
    frames = dataset.pixel_array.copy()
    left = frames[0].any(axis=0).argmax()  # 180, of a box from 180.25
    frames[0, :, left] = 0
    repack(dataset, frames)


def bite_a_corner(dataset):
    frames = dataset.pixel_array.copy()
    top, left = frames[0].any(axis=1).argmax(), frames[0].any(axis=0).argmax()
    frames[0, top, left] = 0
    repack(dataset, frames)


def repack(dataset, frames):
    packed = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)


def another_patient(dataset):
    dataset.PatientID = "someone else"


def another_image(dataset):
    source = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = "2.25.999"


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        (ResultKind.AI_SR, shift_region, "not where the reading has it"),
        (ResultKind.AI_SR, shift_outline_of_measurement, "not where the reading has it"),
        (ResultKind.SEGMENTATION, lose_a_column, "not where the reading has it"),
        (ResultKind.SEGMENTATION, bite_a_corner, "no rectangle"),
        (ResultKind.SEGMENTATION, another_image, "does not refer to the mammograms"),
        (ResultKind.SEGMENTATION, another_patient, "does not have its mammogram's PatientID"),
        (ResultKind.AI_SR, another_patient, "does not have its mammogram's PatientID"),
        (ResultKind.IMAGE_CAPTURE, another_patient, "does not have its mammogram's PatientID"),
    ],
)
def test_the_last_look_sees_faults_of_every_kind(everything, four_views, kind, fault, message):
    result = everything.of((kind,))[0]
    images = [image for image in four_views if image.sop_instance_uid in result.reference.images]
    verify_against_reading(result.dataset, images)
    damaged = copy.deepcopy(result.dataset)
    fault(damaged)
    with pytest.raises(ResultError, match=message):
        verify_against_reading(damaged, images)


def test_a_foreign_object_is_none_of_ours(four_views):
    stranger = copy.deepcopy(four_views[0].header)
    stranger.file_meta = Dataset()
    stranger.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    with pytest.raises(ResultError, match="none of the results made here"):
        verify_against_reading(stranger, four_views[:1])
