"""HL7 v2.5.1 ORU^R01: an AI report in words, for a RIS that takes no objects (HL7 v2.5.1, 7.3.1).

Everything in it is of the report itself: patient, order and study, then one observation for each thing that it says.
Its status is preliminary, never final.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import hl7
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from mammoscope.results import concepts
from mammoscope.results.base import RESEARCH_USE
from mammoscope.results.measurement_report import QUALITATIVE_EVALUATIONS
from mammoscope.results.study import ResultError

VERSION = "2.5.1"
PRELIMINARY = "P"
"""Of order and observations (HL7 tables 0123 and 0085)."""
SERVICE = "MAMMOSCOPE^Mammography CAD, research use only^99MAMMOSCOPE"
STUDY = "113014^DICOM Study^DCM"
SUMMARY = "111017^CAD Processing and Findings Summary^DCM"
COMMENT = "121106^Comment^DCM"
FINDING = "121071^Finding^DCM"
CERTAINTY = "111012^Certainty of Finding^DCM"
PERCENT = "%^percent^UCUM"

_LONGEST_ID = 20  # of MSH-10
_SEXES = ("M", "F", "O")


@dataclass(frozen=True, slots=True)
class Addressing:
    """Who the message is from and for: applications and facilities (MSH-3 to MSH-6)."""

    sender: str
    receiving_application: str = ""
    receiving_facility: str = ""


def observation_message(report: Dataset, addressing: Addressing, now: datetime | None = None) -> hl7.Message:
    """The message of one AI report.

    Made twice of the same report, it has the same control ID, so that the receiver knows a repetition.

    Parameters
    ----------
    report
        As `mammoscope.results.measurement_report.ai_sr` makes it.
    now
        Date and time of the message; the clock's unless given.

    Raises
    ------
    ResultError
        If the object is no AI report.
    """
    if report.get("SOPClassUID") != Comprehensive3DSRStorage:
        raise ResultError(f"object {report.get('SOPInstanceUID', '?')} is no AI report; a summary is made of one only.")
    observations = list(_observations(report))
    segments = [
        _header(report, addressing, now or datetime.now()),
        _patient(report),
        _order(report),
        *(_observation(number, *said) for number, said in enumerate(observations, start=1)),
    ]
    return hl7.parse("\r".join(segments) + "\r")


def _header(report: Dataset, addressing: Addressing, now: datetime) -> str:
    control = hashlib.sha256(str(report.SOPInstanceUID).encode()).hexdigest()[:_LONGEST_ID].upper()
    names = (addressing.sender, "", addressing.receiving_application, addressing.receiving_facility)
    fields = [*map(escaped, names), f"{now:%Y%m%d%H%M%S}", "", "ORU^R01^ORU_R01", control, "P", VERSION]
    return "|".join(["MSH|^~\\&", *fields, *[""] * 5, "UNICODE UTF-8"])


def _patient(report: Dataset) -> str:
    issuer = escaped(report.get("IssuerOfPatientID"))
    identifier = f"{escaped(report.get('PatientID'))}^^^{issuer}^PI" if report.get("PatientID") else ""
    sex = str(report.get("PatientSex") or "")
    birth = str(report.get("PatientBirthDate") or "")
    return f"PID|1||{identifier}||{_name(report)}||{birth}|{sex if sex in _SEXES else ''}"


def _name(report: Dataset) -> str:
    """XPN has suffix and prefix the other way round than DICOM's PN has."""
    name = report.get("PatientName")
    if not name:
        return ""
    parts = (name.family_name, name.given_name, name.middle_name, name.name_suffix, name.name_prefix)
    return "^".join(map(escaped, parts)).rstrip("^")


def _order(report: Dataset) -> str:
    accession = escaped(report.get("AccessionNumber"))
    studied = f"{report.get('StudyDate') or ''}{str(report.get('StudyTime') or '')[:6]}"
    made = f"{report.ContentDate}{str(report.ContentTime)[:6]}"
    # OBR-22 when it was made, OBR-24 the section (HL7 table 0074: radiology), OBR-25 the status.
    return f"OBR|1||{accession}|{SERVICE}|||{studied}" + "|" * 15 + f"{made}||RAD|{PRELIMINARY}"


def _observations(report: Dataset) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield type, identifier, sub-identifier, value and units of each."""
    model = escaped(_model(report))
    yield "ST", STUDY, "", escaped(report.StudyInstanceUID), ""
    for item in _of(report, codes.DCM.ImagingMeasurements):
        groups = [group for group in item.get("ContentSequence", []) if group.ValueType == "CONTAINER"]
        for number, group in enumerate(groups, start=1):
            what, side, score = _finding(group)
            yield "ST", FINDING, str(number), escaped(f"{what}{', ' + side + ' breast' if side else ''}"), ""
            if score is not None:
                yield "NM", CERTAINTY, str(number), f"{score:g}", PERCENT
    for item in _of(report, QUALITATIVE_EVALUATIONS):
        for said in item.get("ContentSequence", []):
            if said.ValueType == "CODE" and _is(said, concepts.CAD_PROCESSING_AND_FINDINGS_SUMMARY):
                yield "ST", SUMMARY, "", escaped(said.ConceptCodeSequence[0].CodeMeaning), ""
            elif said.ValueType == "TEXT":
                yield "TX", COMMENT, "", escaped(said.TextValue), ""
    yield "TX", COMMENT, "", f"Read by {model}; {RESEARCH_USE}", ""


def _observation(number: int, kind: str, identifier: str, sub: str, value: str, units: str) -> str:
    return f"OBX|{number}|{kind}|{identifier}|{sub}|{value}|{units}|||||{PRELIMINARY}"


def _finding(group: Dataset) -> tuple[str, str, float | None]:
    """What was found, on which side, and how surely, of one measurement group."""
    what, side, score = "Finding", "", None
    for item in group.get("ContentSequence", []):
        if _is(item, codes.DCM.Finding):
            what = str(item.ConceptCodeSequence[0].CodeMeaning)
        elif _is(item, codes.SCT.FindingSite):
            inner = item.get("ContentSequence", [])
            side = next((str(one.ConceptCodeSequence[0].CodeMeaning).lower() for one in inner), "")
        elif _is(item, concepts.CERTAINTY_OF_FINDING):
            score = float(item.MeasuredValueSequence[0].NumericValue)
    return what, side, score


def _model(report: Dataset) -> str:
    versions = report.get("SoftwareVersions") or []
    return str(versions[-1]) if not isinstance(versions, str) and versions else str(versions)


def _of(report: Dataset, name: Code) -> Iterator[Dataset]:
    yield from (item for item in report.get("ContentSequence", []) if _is(item, name))


def _is(item: Dataset, name: Code) -> bool:
    """Whether a content item has that concept name."""
    names = item.get("ConceptNameCodeSequence") or []
    return bool(
        names and (names[0].get("CodeValue"), names[0].CodingSchemeDesignator) == (name.value, name.scheme_designator)
    )


def escaped(value: object) -> str:
    r"""Text as a field holds it (HL7 v2.5.1, 2.7): separators by escape sequences, control characters as spaces.

    Examples
    --------
    >>> escaped("A^B|C\\D & E")
    'A\\S\\B\\F\\C\\E\\D \\T\\ E'
    """
    escapes = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
    text = "" if value is None else str(value)
    return "".join(escapes.get(character, character if character.isprintable() else " ") for character in text)
