import contextlib
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mammoscope.network.syslog import SyslogClient
from mammoscope.node.audit.atna import Source, audit_message
from mammoscope.node.audit.recorder import Audit, Collector, audit_line
from mammoscope.node.audit.trail import FIRST, AuditTrail, Position
from mammoscope.node.events import (
    AssociationRefused,
    Event,
    ImageRead,
    ImagesRemoved,
    NodeStarted,
    NodeStopped,
    ObjectReceived,
    Origin,
    ReportParked,
    ReportResent,
    ReportSent,
    SendingFailed,
    StudyFailed,
    StudyRead,
    StudyRetried,
)

AT = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
SOURCE = Source("MAMMOSCOPE", "reader.hospital")


def received(number: int = 1, **changes: object) -> ObjectReceived:
    facts = {
        "at": AT, "study": "1.2.3", "sop_instance": f"1.2.3.{number}", "sop_class": "1.2.840.10008.5.1.4.1.1.1.2",
        "peer": "MODALITY", "address": "10.0.0.7", "outcome": "stored",
    }  # fmt: skip
    return ObjectReceived(**{**facts, **changes})


def read(folder: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def test_each_line_holds_the_hash_of_the_one_before(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": "a"}, {"event": "b"}])
    AuditTrail(tmp_path).append([{"event": "c"}])  # another process

    (file,) = tmp_path.glob("*.jsonl")
    assert file.name == f"{datetime.now(UTC):%Y-%m}.jsonl"
    raw = file.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in raw] == ["a", "b", "c"]
    assert [json.loads(line)["number"] for line in raw] == [1, 2, 3]
    assert [json.loads(line)["previous"] for line in raw] == [FIRST, *(hashlib.sha256(r).hexdigest() for r in raw[:2])]
    assert trail.verify().lines == 3
    assert trail.verify().problems == ()


def test_the_chain_goes_on_over_the_months_and_never_back(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": "a"}])
    (file,) = tmp_path.glob("*.jsonl")
    file.rename(tmp_path / "2020-01.jsonl")
    trail.append([{"event": "b"}])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert trail.verify().problems == ()
    file.rename(tmp_path / "2999-12.jsonl")  # written while the clock was wrong
    trail.append([{"event": "c"}])
    assert [line["event"] for line in read(tmp_path)] == ["a", "b", "c"]
    assert trail.verify().problems == ()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"b"', b'"x"'), *lines[2:]], "line 3 does not follow"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: lines[:-1], "line number 4, the last one written, is missing or was changed"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"d"', b'"x"')], "line number 4, the last one written"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 does not follow"),
        (lambda lines: [lines[0], b"rubbish", *lines[2:]], "line 2 is damaged"),
        (lambda _: [], "line number 4, the last one written"),
    ],
)
def test_a_changed_or_cut_line_is_found(tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], told: str):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": name} for name in "abcd"])
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(b"".join(line + b"\n" for line in damage(file.read_bytes().splitlines())))

    assert any(told in problem for problem in trail.verify().problems)


def test_what_a_power_cut_left_of_a_line_is_taken_away_and_the_chain_goes_on(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": "a"}])
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"number":2,"ev')
    trail.append([{"event": "b"}])

    assert [line["event"] for line in read(tmp_path)] == ["a", "b"]
    assert file.read_bytes().startswith(whole)
    assert trail.verify().problems == ()


def test_a_very_long_line_is_followed_too(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": "a", "long": "x" * 200_000}])
    trail.append([{"event": "b"}])
    assert trail.verify().problems == ()


def test_several_may_write_at_once(tmp_path: Path):
    def write(name: str) -> None:
        trail = AuditTrail(tmp_path)  # each has its own, as processes have
        for number in range(25):
            trail.append([{"event": f"{name}{number}"}])

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read(tmp_path)) == 100
    assert AuditTrail(tmp_path).verify().problems == ()


def test_lines_after_a_place_leave_out_what_is_still_being_written(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    trail.append([{"event": name} for name in "abc"])
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as output:
        output.write(b'{"half')
    first, *_ = trail.lines_after(Position("", 0), 2)
    assert json.loads(first[0])["event"] == "a"
    assert [json.loads(line)["event"] for line, _ in trail.lines_after(first[1], 9)] == ["b", "c"]


def test_events_are_written_in_order_and_a_phantoms_left_out(tmp_path: Path):
    trail = AuditTrail(tmp_path)
    with Audit(trail) as audit:
        for number in range(300):
            audit(received(number))
            audit(received(number, origin=Origin.PHANTOM))
        audit(StudyRetried(at=AT, study="1.2.3", person="ada"))

    lines = read(tmp_path)
    assert [line["sop_instance"] for line in lines[:-1]] == [f"1.2.3.{n}" for n in range(300)]
    assert lines[-1] == {
        "number": 301, "event": "StudyRetried", "at": "2026-03-04T05:06:07.089000+00:00", "study": "1.2.3",
        "person": "ada", "previous": lines[-1]["previous"],
    }  # fmt: skip
    assert trail.verify().problems == ()


def test_events_wait_while_the_disk_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until):
    monkeypatch.setattr("mammoscope.node.audit.recorder.TRY_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr("mammoscope.node.audit.recorder.MOST_WAITING", 3)
    folder = tmp_path / "audit"
    trail = AuditTrail(folder)
    folder.rename(tmp_path / "gone")
    with Audit(trail) as audit:
        audit(received(0))
        wait_until(lambda: not audit.is_writing)  # it holds the first; three more fit, two do not
        for number in range(1, 6):
            audit(received(number))
        (tmp_path / "gone").rename(folder)
        wait_until(lambda: audit.is_writing)

    lines = read(folder)
    assert [line["sop_instance"] for line in lines if line["event"] == "ObjectReceived"] == [
        "1.2.3.0", "1.2.3.1", "1.2.3.2", "1.2.3.3",
    ]  # fmt: skip
    assert [line["events"] for line in lines if line["event"] == "AuditGap"] == [2]


def parse(message: bytes) -> tuple[str, ET.Element]:
    header, _, body = message.partition(b"\xef\xbb\xbf")
    return header.decode("ascii"), ET.fromstring(body)


STUDY = {"study": "1.2.3", "at": AT}
REPORT = {"report": 1, "seconds": 3.0}
MESSAGES: list[tuple[Event, str, str | None, str, str]] = [
    (NodeStarted(at=AT, version="1", algorithm="m 1"), "110100", "110120", "E", "0"),
    (NodeStopped(at=AT), "110100", "110121", "E", "0"),
    (AssociationRefused(at=AT, peer="EVE", address="10.0.0.9", reason="unknown"), "110113", "110126", "E", "4"),
    (received(), "110104", None, "C", "0"),
    (received(outcome="refused", reason="no UID"), "110104", None, "C", "4"),
    (received(outcome="known"), "110104", None, "R", "0"),
    (StudyRead(**STUDY, **REPORT, images=4, findings=2, not_processed=0, waited_seconds=2), "110103", None, "R", "0"),
    (StudyFailed(**STUDY, reason="broken"), "110103", None, "R", "8"),
    (StudyRetried(**STUDY, person="ada"), "110103", None, "U", "0"),
    (ReportResent(**STUDY, report=1, destination=None, person="ada"), "110103", None, "U", "0"),
    (ReportSent(**STUDY, **REPORT, destination="pacs", sop_instances=("1.5",), tries=1), "110104", None, "C", "0"),
    (SendingFailed(**STUDY, report=1, destination="pacs", tries=2, reason="down"), "110104", None, "C", "4"),
    (ReportParked(**STUDY, report=1, destination="pacs", tries=2, reasons=("a", "b")), "110104", None, "C", "8"),
    (ImagesRemoved(**STUDY, images=4), "110105", None, "D", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "code", "kind", "action", "outcome"), MESSAGES)
def test_an_event_becomes_the_audit_message_of_the_standard(event, code, kind, action, outcome):
    message = audit_message(json.loads(json.dumps(audit_line(event))), SOURCE)
    assert message is not None
    header, root = parse(message)

    severity = 85 if outcome == "0" else 84  # facility 10, severity 5 or 4
    assert header.startswith(f"<{severity}>1 2026-03-04T05:06:07.089Z reader.hospital MAMMOSCOPE ")
    assert header.endswith(" DICOM+RFC3881 - ")
    identification = root.find("EventIdentification")
    assert identification.get("EventActionCode") == action
    assert identification.get("EventOutcomeIndicator") == outcome
    assert identification.get("EventDateTime") == "2026-03-04T05:06:07.089000+00:00"
    assert identification.find("EventID").get("csd-code") == code
    assert getattr(identification.find("EventTypeCode"), "attrib", {}).get("csd-code") == kind
    assert root.find("AuditSourceIdentification").get("AuditSourceID") == "MAMMOSCOPE"
    children = [child.tag for child in root]
    order = ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"]
    assert children == sorted(children, key=order.index)
    assert all(p.get("UserIsRequestor") in ("true", "false") for p in root.findall("ActiveParticipant"))
    if "study" in audit_line(event):
        assert root.find("ParticipantObjectIdentification").get("ParticipantObjectID") == "1.2.3"


def test_a_received_object_names_its_sender_and_itself():
    _, root = parse(audit_message(audit_line(received()), SOURCE))
    sender, us = root.findall("ActiveParticipant")
    assert (sender.get("UserID"), sender.get("NetworkAccessPointID"), sender.get("NetworkAccessPointTypeCode")) == (
        "MODALITY", "10.0.0.7", "2",
    )  # fmt: skip
    assert sender.find("RoleIDCode").get("csd-code") == "110153"
    assert (us.get("UserID"), us.get("NetworkAccessPointID"), us.get("NetworkAccessPointTypeCode")) == (
        "MAMMOSCOPE", "reader.hospital", "1",
    )  # fmt: skip
    holder = root.find("ParticipantObjectIdentification/ParticipantObjectDescription/SOPClass")
    assert holder.attrib == {"UID": "1.2.840.10008.5.1.4.1.1.1.2", "NumberOfInstances": "1"}
    assert [i.get("UID") for i in holder] == ["1.2.3.1"]


def test_a_refused_object_without_a_study_is_told_too():
    _, root = parse(audit_message(audit_line(received(study="", outcome="refused", reason="no UID")), SOURCE))
    assert root.find("ParticipantObjectIdentification").get("ParticipantObjectID") == "unknown"
    assert root.find("EventIdentification/EventOutcomeDescription").text == "no UID"


def test_one_image_of_a_report_is_no_message_of_its_own():
    event = ImageRead(study="1", sop_instance="2", scanner="x", findings=0, reason=None, seconds=1)
    assert audit_message(audit_line(event), SOURCE) is None


class CollectorServer:
    """A syslog collector by TCP: keeps whole messages, counted as RFC 6587 counts them."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.messages: list[bytes] = []
        self._tls = tls
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            length = b""
            try:
                while byte := stream.read(1):
                    if byte != b" ":
                        length += byte
                        continue
                    self.messages.append(stream.read(int(length)))
                    length = b""
            except (OSError, ValueError):
                return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def uids(self) -> set[str]:
        return {parse(m)[1].find(".//Instance").get("UID") for m in self.messages}


@pytest.fixture
def server() -> Iterator[Callable[..., CollectorServer]]:
    started: list[CollectorServer] = []

    def start(**options: object) -> CollectorServer:
        started.append(CollectorServer(**options))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(OSError):  # stopped by the test
            one.stop()


def test_a_collector_that_was_down_gets_everything_afterwards_and_nothing_from_before(
    tmp_path: Path, server, monkeypatch: pytest.MonkeyPatch, wait_until
):
    monkeypatch.setattr("mammoscope.node.audit.recorder.TRY_AGAIN_SECONDS", 0.1)
    trail = AuditTrail(tmp_path)
    trail.append([audit_line(received(0))])  # before a collector was named
    first = server()
    client = SyslogClient(f"tcp://127.0.0.1:{first.port}")
    with Collector(trail, tmp_path, client, SOURCE):
        trail.append([audit_line(received(1))])
        wait_until(lambda: first.uids() == {"1.2.3.1"})
        first.stop()
        trail.append([audit_line(received(2))])
        second = server(port=first.port)
        trail.append([audit_line(received(3))])
        wait_until(lambda: second.uids() >= {"1.2.3.2", "1.2.3.3"})
    trail.append([audit_line(received(4))])  # while the node was stopped
    with Collector(trail, tmp_path, SyslogClient(f"tcp://127.0.0.1:{first.port}"), SOURCE):
        wait_until(lambda: "1.2.3.4" in second.uids())
    assert "1.2.3.0" not in first.uids() | second.uids()


def test_by_udp_a_datagram_is_a_message():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(60)
        with SyslogClient(f"udp://127.0.0.1:{collector.getsockname()[1]}") as client:
            client.send([audit_message(audit_line(received()), SOURCE)])
        header, root = parse(collector.recv(65535))
    assert header.startswith("<85>1 ")
    assert root.find("EventIdentification/EventID").get("csd-code") == "110104"
