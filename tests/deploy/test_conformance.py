"""What the conformance statement claims is what the program does."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag
from pydicom.uid import UID

from mammoscope.network import IGNORED_SOP_CLASSES, READ_SOP_CLASSES, REPORTED_SOP_CLASSES, TRANSFER_SYNTAXES
from mammoscope.network.acceptor import MAX_PDU
from mammoscope.network.c_store_scp import MOST_ASSOCIATIONS, NETWORK_TIMEOUT
from mammoscope.network.sop_classes import (
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)
from mammoscope.node.audit import atna as audit_messages
from mammoscope.node.preflight import SOP_CLASSES
from mammoscope.node.retrieve.archives import ARCHIVE_SECONDS
from mammoscope.node.storage.receiver import MOST_IMAGES
from mammoscope.node.worker import SENDERS_AT_ONCE
from mammoscope.results.base import COPIED, ResultSeries


@pytest.fixture(scope="module")
def statement(root: Path) -> str:
    return (root / "docs" / "conformance.md").read_text()


def table(statement: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is that."""
    _, _, rest = statement.partition(f"\n| {first} |")
    assert rest, f"no table of {first}"
    lines = [line for line in rest.split("\n\n")[0].splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(uids: Mapping[UID, object] | tuple[UID, ...]) -> list[tuple[str, str]]:
    return [(UID(uid).name, str(uid)) for uid in uids]


def test_what_is_received(statement: str):
    rows = table(statement, "SOP class")
    storage = [(name, uid) for name, uid, _ in rows if uid.startswith("1.2.840.10008.5.")]
    assert storage == [*named(READ_SOP_CLASSES), *named(REPORTED_SOP_CLASSES)]
    assert [row[:2] for row in rows if row[2].startswith("ignored")] == [
        ["every other SOP class of PS3.4 Table B.5-1 that pynetdicom knows", ""]
    ]
    assert len(IGNORED_SOP_CLASSES) > 100
    others = [(name, uid) for name, uid, _ in rows if uid.startswith("1.2.840.10008.1.")]
    assert others == named((VERIFICATION, STORAGE_COMMITMENT))


def test_transfer_syntaxes_in_their_order(statement: str):
    assert [(name, uid) for name, uid in table(statement, "transfer syntax")] == named(TRANSFER_SYNTAXES)


def test_what_is_sent(statement: str):
    claimed = {kind.strip("`"): (name, uid, modality) for kind, name, uid, modality in table(statement, "result (`results` of a destination)")}  # fmt: skip  # noqa: E501
    built = {str(kind): (uid.name, str(uid), ResultSeries.of(kind).value.modality) for kind, uid in SOP_CLASSES.items()}
    assert claimed == built
    assert all(ResultSeries.of(kind).value.sop_class == uid for kind, uid in SOP_CLASSES.items())
    also = [(name, uid) for name, uid, _ in table(statement, "also as user")]
    assert also == named((VERIFICATION, STORAGE_COMMITMENT, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET))


def test_limits(statement: str):
    for claim in (
        f"or its study has {MOST_IMAGES} images already |",
        f"| largest PDU received | {MAX_PDU} bytes |",
        f"| associations accepted at once | {MOST_ASSOCIATIONS} |",
        f"| associations opened at once | {SENDERS_AT_ONCE} a destination, 1 an archive |",
        f"| silence that ends an association that we accepted | {NETWORK_TIMEOUT:g} s |",
        f"30 s for each answer; {ARCHIVE_SECONDS:g} s where an archive is asked |",
    ):
        assert claim in statement


def test_audit_messages(statement: str):
    claimed = set(re.findall(r"\((\d{6})\)", "".join(row[0] for row in table(statement, "audit message (DCM code)"))))
    codes = {value for value in vars(audit_messages).values() if isinstance(value, audit_messages.Code)}
    built = {code.value for code in codes if code.meaning.startswith(("Application A", "DICOM I", "DICOM S", "Secu", "Node A"))}  # fmt: skip  # noqa: E501
    assert claimed == built


def test_copied_attributes(statement: str):
    claimed = [(name, tag) for name, tag in table(statement, "attribute")]
    assert claimed == [
        (dictionary_description(keyword), str(Tag(tag_for_keyword(keyword))).replace(" ", "").upper())
        for keyword in COPIED
    ]
