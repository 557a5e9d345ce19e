"""The HL7 message of an AI report, read back by the library's own parser."""

import hl7
import pytest

from mammoscope.results import Addressing, ResultError, ai_sr, mammography_cad_sr, observation_message

TO = Addressing("MAMMOSCOPE", "RIS", "ST|JOHN")


def field(message: hl7.Message, segment: str, number: int) -> str:
    return str(message.segment(segment)[number])


def observations(message: hl7.Message) -> list[tuple[str, str]]:
    """What is observed and its value, of each OBX."""
    return [(str(s[3]).split("^")[1], hl7.parse(str(message)).unescape(str(s[5]))) for s in message.segments("OBX")]


def test_patient_order_and_study_are_those_of_the_report(four_views, algorithm, now):
    report = ai_sr(four_views, algorithm, now=now)
    report.PatientName = "Doe^Jane^Q^Dr^III"
    report.IssuerOfPatientID = "CLINIC&1"
    message = observation_message(report, TO, now)
    assert (field(message, "MSH", 3), field(message, "MSH", 5)) == ("MAMMOSCOPE", "RIS")
    assert message.unescape(field(message, "MSH", 6)) == "ST|JOHN"
    assert field(message, "MSH", 9) == "ORU^R01^ORU_R01"
    assert field(message, "MSH", 18) == "UNICODE UTF-8"
    assert str(message["PID.F3.R1.C1"]) == "P-1"
    assert message.unescape(str(message["PID.F3.R1.C4"])) == "CLINIC&1"
    assert field(message, "PID", 5) == "Doe^Jane^Q^III^Dr"  # XPN: the suffix before the prefix
    assert (field(message, "PID", 7), field(message, "PID", 8)) == ("19640301", "F")
    assert field(message, "OBR", 3) == "A-1"
    assert (field(message, "OBR", 7), field(message, "OBR", 22)) == ("20260102093000", "20260103080910")
    assert (field(message, "OBR", 24), field(message, "OBR", 25)) == ("RAD", "P")
    assert observations(message)[0] == ("DICOM Study", "2.25.10")


def test_findings_with_side_and_certainty_then_what_became_of_the_study(make_image, algorithm, now):
    images = [
        make_image("R", "CC", 1, [((10, 10, 40, 40), 0.871)]),
        make_image("L", "CC", 2, []),
        make_image("R", "MLO", 3, reason="The pixel data end early."),
    ]
    message = observation_message(ai_sr(images, algorithm, now=now, missing=["No image of L MLO."]), TO, now)
    said = observations(message)
    assert said[1:3] == [
        ("Finding", "Mammographic breast mass, right breast"),
        ("Certainty of Finding", "87.1"),
    ]
    assert ("CAD Processing and Findings Summary", "Not all algorithms succeeded; with findings") in said
    comments = [value for what, value in said if what == "Comment"]
    assert any("nothing found" in words for words in comments)
    assert any("The pixel data end early." in words for words in comments)
    assert "No image of L MLO." in comments
    assert comments[-1] == "Read by mammoscope-test 1.2.0; research use only, not for diagnosis"
    assert {str(segment[11]) for segment in message.segments("OBX")} == {"P"}  # never final
    assert [str(segment[1]) for segment in message.segments("OBX")] == [str(n + 1) for n in range(len(said))]


def test_what_patients_are_called_cannot_break_out_of_its_field(four_views, algorithm, now):
    report = ai_sr(four_views, algorithm, now=now)
    report.PatientID = "1|OBX\r2~^\x1c"
    message = observation_message(report, TO, now)
    assert len(message.segments("PID")) == 1
    assert message.unescape(str(message["PID.F3.R1.C1"])) == "1|OBX 2~^ "


def test_a_repetition_has_the_same_control_id_and_another_report_another(four_views, algorithm, now):
    report = ai_sr(four_views, algorithm, now=now)
    again, other = observation_message(report, TO), ai_sr(four_views[:3], algorithm, now=now)
    ids = [field(message, "MSH", 10) for message in (again, observation_message(report, TO, now))]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 20
    assert str(observation_message(other, TO)["MSH.F10"]) != ids[0]


def test_of_another_object_no_message_is_made(four_views, algorithm, now):
    with pytest.raises(ResultError, match="is no AI report"):
        observation_message(mammography_cad_sr(four_views, algorithm, now=now), TO)
