"""The note that rejects the results which a newer report replaces, after IHE IOCM."""

from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import highdicom as hd
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, KeyObjectSelectionDocumentStorage

from mammoscope.findings import Algorithm
from mammoscope.results import ResultError, study_results, verify_against_reading
from mammoscope.results.rejection_note import rejection_note
from mammoscope.results.verification import rejected_by_note
from mammoscope.settings import DestinationSettings, ResultKind, Transport

KINDS = (ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE, ResultKind.REJECTION_NOTE)


@pytest.fixture(scope="module")
def before(four_views, algorithm, now):
    """Of three views; the fourth came late."""
    return study_results(four_views[:3], algorithm, kinds=KINDS, now=now)


@pytest.fixture(scope="module")
def after(four_views, algorithm, now, before):
    later = now + timedelta(hours=1)
    return study_results(four_views, algorithm, kinds=KINDS, supersedes=before.references, now=later)


def test_a_first_report_rejects_nothing(before):
    assert {result.kind for result in before.results} == {ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE}
    assert before.problems == ()


def test_a_later_report_rejects_what_it_replaces_and_nothing_else(before, after, four_views):
    [note] = [result.dataset for result in after.results if result.kind is ResultKind.REJECTION_NOTE]
    assert after.results[-1].dataset is note  # sent when what replaces the others is there
    assert rejected_by_note(note) == {before.of([ResultKind.CAD_SR])[0].reference.sop_instance}
    unchanged = {result.reference.sop_instance for result in before.of([ResultKind.PRESENTATION_STATE])}
    assert unchanged <= {result.reference.sop_instance for result in after.results}
    assert note.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert (note.Modality, note.SeriesNumber) == ("KO", 9010)
    assert note.PatientID == four_views[0].header.PatientID
    with BytesIO() as buffer:
        note.save_as(buffer, enforce_file_format=True)
        read = hd.ko.KeyObjectSelectionDocument.from_dataset(dcmread(BytesIO(buffer.getvalue())))
    title = read.content[0].ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodeMeaning) == ("113001", "Rejected for Quality Reasons")
    [(study, series, instance)] = [read.resolve_reference(uid) for uid in rejected_by_note(note)]
    [rejected] = before.of([ResultKind.CAD_SR])
    assert (study, series) == (rejected.reference.study, rejected.reference.series)
    assert instance == rejected.reference.sop_instance


def test_a_note_is_never_rejected_itself(four_views, now, after):
    other = Algorithm("another model", "2")
    third = study_results(four_views, other, kinds=KINDS, supersedes=after.references, now=now + timedelta(hours=2))
    [note] = third.of([ResultKind.REJECTION_NOTE])
    earlier = {r.sop_instance for r in after.references if r.kind is not ResultKind.REJECTION_NOTE}
    assert rejected_by_note(note.dataset) == earlier


def test_made_again_of_the_same_there_is_no_note(four_views, algorithm, now, after):
    again = study_results(four_views, algorithm, kinds=KINDS, supersedes=after.references, now=now)
    assert again.of([ResultKind.REJECTION_NOTE]) == ()


def test_no_mammogram_is_rejected(four_views, algorithm, now, before):
    image, [report, *_] = four_views[0], before.references
    mammogram = replace(
        report, sop_class=DigitalMammographyXRayImageStorageForPresentation, sop_instance=image.sop_instance_uid
    )
    with pytest.raises(ResultError, match="no result of this study"):
        rejection_note(image, algorithm, [report, mammogram], now=now)
    with pytest.raises(ResultError, match="no result of this study"):
        rejection_note(image, algorithm, [replace(report, study="1.2.3")], now=now)
    disguised = rejection_note(image, algorithm, [replace(report, sop_instance=image.sop_instance_uid)], now=now)
    with pytest.raises(ResultError, match="rejects a mammogram"):
        verify_against_reading(disguised, [image])


def test_dciodvfy_and_dsrdump_find_no_error(after, tmp_path, dciodvfy_errors, dsrdump_errors):
    [note] = after.of([ResultKind.REJECTION_NOTE])
    path = tmp_path / "note.dcm"
    note.dataset.save_as(path, enforce_file_format=True)
    assert dciodvfy_errors(path) == []
    assert dsrdump_errors(path) == []


def test_a_destination_that_asks_for_notes_gets_them_last():
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    asked = DestinationSettings(**peer, viewer="ohif", rejection_notes=True)
    assert asked.results == (ResultKind.AI_SR, ResultKind.COLOUR_SHEET, ResultKind.REJECTION_NOTE)
    assert ResultKind.REJECTION_NOTE not in DestinationSettings(**peer).results
    with pytest.raises(ValidationError, match="alone says nothing"):
        DestinationSettings(**peer, results=["rejection-note"])
    with pytest.raises(ValidationError, match="hl7 carries none"):
        DestinationSettings(name="ris", transport=Transport.HL7, host="127.0.0.1", port=2575, rejection_notes=True)
