"""Lines of the audit trail as audit messages of DICOM PS3.15 A.5 (the messages of IHE ATNA).

The patient, whom some of those messages should name, is left out: the node keeps no patient's data. A study is named
by its UID, from which the PACS tells the patient.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from xml.etree import ElementTree as ET

from mammoscope.network.syslog import Severity, syslog_message

MESSAGE_KIND = "DICOM+RFC3881"
"""The MSGID of DICOM PS3.15 A.6."""

_SUCCESS, _MINOR_FAILURE, _SERIOUS_FAILURE = "0", "4", "8"
_APPLICATION_SERVER = "4"


@dataclass(frozen=True, slots=True)
class Code:
    """A code of coding scheme DCM (DICOM PS3.16 Annex D)."""

    value: str
    meaning: str


APPLICATION_ACTIVITY = Code("110100", "Application Activity")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED = Code("110105", "DICOM Study Deleted")
SECURITY_ALERT = Code("110113", "Security Alert")
APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
APPLICATION = Code("110150", "Application")
DESTINATION_ROLE = Code("110152", "Destination Role ID")
SOURCE_ROLE = Code("110153", "Source Role ID")
STUDY_INSTANCE_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")

Line = Mapping[str, Any]
"""A line of the trail, as parsed from JSON."""


@dataclass(frozen=True, slots=True)
class Participant:
    """An ActiveParticipant: a machine or a person who took part."""

    user: str
    role: Code | None = None
    address: str = ""
    requestor: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Who audits.

    Parameters
    ----------
    ae_title, host
        Ours.
    """

    ae_title: str
    host: str

    @classmethod
    def of_this_machine(cls, ae_title: str) -> "Source":
        """Name this machine as it names itself."""
        return cls(ae_title, socket.gethostname())


def audit_message(line: Line, source: Source) -> bytes | None:
    """The syslog message for a line of the trail; ``None`` for one that PS3.15 A.5 has no message for."""
    build = _MESSAGES.get(str(line.get("event")))
    if build is None:
        return None
    message = build(line, source)
    failed = message[0].get("EventOutcomeIndicator") != _SUCCESS
    return syslog_message(
        '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(message, encoding="unicode"),
        at=datetime.fromisoformat(line["at"]),
        host=source.host,
        program=source.ae_title,
        process=os.getpid(),
        kind=MESSAGE_KIND,
        severity=Severity.WARNING if failed else Severity.NOTICE,
    )


def _received(line: Line, source: Source) -> ET.Element:
    refused = line["outcome"] == "refused"
    return _message(
        line,
        source,
        INSTANCES_TRANSFERRED,
        action="C" if refused or line["outcome"] == "stored" else "R",  # R: the receiver changed nothing (A.5.3.7)
        outcome=_MINOR_FAILURE if refused else _SUCCESS,
        because=line["reason"],
        participants=(
            Participant(line["peer"], SOURCE_ROLE, line["address"], requestor=True),
            Participant(source.ae_title, DESTINATION_ROLE, source.host),
        ),
        objects=[_study(line, sop_class=line["sop_class"], instances=(line["sop_instance"],))],
    )


def _sent(line: Line, source: Source) -> ET.Element:
    return _transfer(line, source, _SUCCESS, instances=line["sop_instances"])


def _sending_failed(line: Line, source: Source) -> ET.Element:
    return _transfer(line, source, _MINOR_FAILURE, because=line["reason"])


def _parked(line: Line, source: Source) -> ET.Element:
    return _transfer(line, source, _SERIOUS_FAILURE, because="; ".join(line["reasons"]))


def _transfer(
    line: Line, source: Source, outcome: str, *, instances: Iterable[str] = (), because: str | None = None
) -> ET.Element:
    return _message(
        line,
        source,
        INSTANCES_TRANSFERRED,
        action="C",
        outcome=outcome,
        because=because,
        participants=(
            Participant(source.ae_title, SOURCE_ROLE, source.host, requestor=True),
            Participant(line["destination"], DESTINATION_ROLE),
        ),
        objects=[_study(line, instances=instances)],
    )


def _read(line: Line, source: Source) -> ET.Element:
    participant = Participant(source.ae_title, APPLICATION, source.host, requestor=True)
    return _message(line, source, INSTANCES_ACCESSED, action="R", participants=(participant,), objects=[_study(line)])


def _reading_failed(line: Line, source: Source) -> ET.Element:
    return _message(
        line,
        source,
        INSTANCES_ACCESSED,
        action="R",
        outcome=_SERIOUS_FAILURE,
        because=line["reason"],
        participants=(Participant(source.ae_title, APPLICATION, source.host, requestor=True),),
        objects=[_study(line)],
    )


def _asked_by_a_person(line: Line, source: Source) -> ET.Element:
    return _message(
        line,
        source,
        INSTANCES_ACCESSED,
        action="U",
        participants=(
            Participant(line["person"], requestor=True, address=source.host),
            Participant(source.ae_title, APPLICATION, source.host),
        ),
        objects=[_study(line)],
    )


def _images_removed(line: Line, source: Source) -> ET.Element:
    participant = Participant(source.ae_title, APPLICATION, source.host, requestor=True)
    return _message(line, source, STUDY_DELETED, action="D", participants=(participant,), objects=[_study(line)])


def _refused(line: Line, source: Source) -> ET.Element:
    return _message(
        line,
        source,
        SECURITY_ALERT,
        kind=NODE_AUTHENTICATION,
        action="E",
        outcome=_MINOR_FAILURE,
        because=line["reason"],
        participants=(
            Participant(source.ae_title, APPLICATION, source.host),
            Participant(line["peer"] or "unknown", address=line["address"], requestor=True),
        ),
        objects=[_object(line["address"] or "unknown", NODE_ID, role="13")],
    )


def _activity(line: Line, source: Source) -> ET.Element:
    return _message(
        line,
        source,
        APPLICATION_ACTIVITY,
        kind=APPLICATION_START if line["event"] == "NodeStarted" else APPLICATION_STOP,
        action="E",
        participants=(Participant(source.ae_title, APPLICATION, source.host),),
    )


_MESSAGES: Mapping[str, Callable[[Line, Source], ET.Element]] = {
    "NodeStarted": _activity,
    "NodeStopped": _activity,
    "AssociationRefused": _refused,
    "ObjectReceived": _received,
    "StudyRead": _read,
    "StudyFailed": _reading_failed,
    "StudyRetried": _asked_by_a_person,
    "ReportResent": _asked_by_a_person,
    "ReportSent": _sent,
    "SendingFailed": _sending_failed,
    "ReportParked": _parked,
    "ImagesRemoved": _images_removed,
}


def _message(
    line: Line,
    source: Source,
    code: Code,
    *,
    action: str,
    participants: Iterable[Participant],
    objects: Iterable[ET.Element] = (),
    kind: Code | None = None,
    outcome: str = _SUCCESS,
    because: str | None = None,
) -> ET.Element:
    message = ET.Element("AuditMessage")
    event = ET.SubElement(
        message,
        "EventIdentification",
        EventActionCode=action,
        EventDateTime=line["at"],
        EventOutcomeIndicator=outcome,
    )
    _code(event, "EventID", code)
    if kind is not None:
        _code(event, "EventTypeCode", kind)
    if because:
        ET.SubElement(event, "EventOutcomeDescription").text = because
    message.extend(_participant(participant) for participant in participants)
    audit_source = ET.SubElement(message, "AuditSourceIdentification", AuditSourceID=source.ae_title)
    ET.SubElement(audit_source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    message.extend(objects)
    return message


def _participant(participant: Participant) -> ET.Element:
    element = ET.Element(
        "ActiveParticipant", UserID=participant.user, UserIsRequestor=str(participant.requestor).lower()
    )
    if participant.address:
        element.set("NetworkAccessPointID", participant.address)
        element.set("NetworkAccessPointTypeCode", "2" if _is_address(participant.address) else "1")
    if participant.role is not None:
        _code(element, "RoleIDCode", participant.role)
    return element


def _study(line: Line, *, sop_class: str | None = None, instances: Iterable[str] = ()) -> ET.Element:
    element = _object(line["study"] or "unknown", STUDY_INSTANCE_UID, role="3")  # a refused object may name none
    instances = tuple(instances)
    if instances:
        description = ET.SubElement(element, "ParticipantObjectDescription")
        holder = ET.SubElement(description, "SOPClass", NumberOfInstances=str(len(instances)))
        if sop_class:
            holder.set("UID", sop_class)
        for uid in instances:
            ET.SubElement(holder, "Instance", UID=uid)
    return element


def _object(identifier: str, kind: Code, *, role: str) -> ET.Element:
    """A system object; role 3 is a report, 13 a security resource (DICOM PS3.15 A.5.2.5)."""
    element = ET.Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole=role,
    )
    _code(element, "ParticipantObjectIDTypeCode", kind)
    return element


def _code(parent: ET.Element, name: str, code: Code) -> None:
    ET.SubElement(parent, name, {"csd-code": code.value, "codeSystemName": "DCM", "originalText": code.meaning})


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
