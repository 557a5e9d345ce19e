"""What a node does with bad input, one test for each row of the table in `docs/node.md`.

The node is a process; what is looked at is what its peers see, its log and its storage folder.
"""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000


@pytest.fixture
def start_node(peers: ModuleType, destination, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    started: list[Any] = []

    def start(environment: dict[str, str] | None = None, sections: dict[str, Any] | None = None, **node: object) -> Any:
        settings = {"destinations": [peers.destination_section(destination.port)], **(sections or {})}
        settings["node"] = {"quiet_seconds": 1, **node}
        started.append(peers.NodeProcess(tmp_path / "node", settings, environment=environment))
        started[-1].start()
        started[-1].wait_until_it_listens()
        return started[-1]

    yield start
    for node in started:
        node.kill()


@pytest.fixture
def study(peers: ModuleType, tmp_path: Path) -> list[Any]:
    """Four images, each with its one bright rectangle."""
    images = peers.SmallMammograms(tmp_path / "images", seed=4).study(0)
    assert all(image.box for image in images)
    return images


def files(images: list[Any]) -> list[Path]:
    return [image.file for image in images]


def change(image: Any, edit: Callable[[FileDataset], None]) -> None:
    """Change the data set of a file; what its C-STORE request is made of stays."""
    dataset = dcmread(image.file)
    edit(dataset)
    dataset.save_as(image.file)


def reports(destination) -> list[Dataset]:
    return [arrival.dataset for arrival in destination.arrivals if arrival.dataset is not None]


def kept_dicom(node) -> list[Path]:
    return sorted(file for file in node.storage.rglob("*.dcm") if file.is_file())


# Who calls --------------------------------------------------------------------------------------------------------


def test_an_unknown_ae_is_rejected_and_told(peers: ModuleType, start_node, study) -> None:
    node = start_node(allowed_callers=["MODALITY"])
    assert not peers.echo(node.port, title="STRANGER")
    assert peers.send(files(study), node.port, title="STRANGER") == [None] * 4
    assert not peers.echo(node.port, called="OTHER")
    assert kept_dicom(node) == []
    assert [event["caller"] for event in node.events("association rejected")] == ["STRANGER", "STRANGER", "MODALITY"]
    assert peers.echo(node.port, title="MODALITY")


def test_half_an_association_takes_nothing_from_others(peers: ModuleType, start_node, destination, study) -> None:
    node = start_node()
    request = _association_request()
    openings = [b"", request[:3], request[:60], request[:-1], request, b"GET / HTTP/1.1\r\n\r\n", b"\x09" * 400]
    lines = [_said(node.port, opening) for opening in openings * 5]  # more than may associate at once
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    for line in lines:
        line.close()
    peers.wait_for(lambda: reports(destination), "the study is reported")
    assert list((node.storage / "incoming").iterdir()) == []
    assert node.alive


def test_a_wrong_certificate_is_refused_and_the_right_one_is_not(
    peers: ModuleType, start_node, destination, study, tmp_path: Path
) -> None:
    ours, theirs = Authority("hospital", tmp_path), Authority("stranger", tmp_path)
    certificate, key = ours.issue("node")
    port = peers.free_port()
    tls = {"certificate": str(certificate), "key": str(key), "trusted": str(ours.certificate), "port": port}
    node = start_node(sections={"tls": tls}, plain=True)
    assert not _echo_by_tls(port, theirs.issue("intruder"), trusted=ours.certificate)
    assert not _echo_by_tls(port, None, trusted=ours.certificate)
    assert not peers.echo(port)  # not encrypted at all
    assert _echo_by_tls(port, ours.issue("modality"), trusted=ours.certificate)
    peers.wait_for(lambda: len(node.events("association rejected")) >= 3, "each refusal is told")
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: reports(destination), "the study is reported")


# What is sent -----------------------------------------------------------------------------------------------------


def test_an_object_without_sop_instance_uid_is_refused(peers: ModuleType, start_node, destination, study) -> None:
    change(study[0], lambda dataset: delattr(dataset, "SOPInstanceUID"))
    node = start_node()
    assert peers.send(files(study), node.port) == [CANNOT_UNDERSTAND, SUCCESS, SUCCESS, SUCCESS]
    peers.wait_for(lambda: reports(destination), "the other images are reported")
    [refused] = node.events("object refused")
    assert "without a valid SOP Instance UID" in refused["reason"]


def test_a_study_without_patient_id_is_read(peers: ModuleType, start_node, destination, study) -> None:
    for image in study:
        change(image, lambda dataset: delattr(dataset, "PatientID"))
    node = start_node()
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: reports(destination), "the study is reported")
    [report] = reports(destination)
    assert report.PatientID == ""
    assert report.PatientName == dcmread(study[0].file).PatientName


def test_an_image_of_another_patient_does_not_get_into_the_report(
    peers: ModuleType, start_node, destination, study
) -> None:
    change(study[3], lambda dataset: setattr(dataset, "PatientID", "SOMEBODY-ELSE"))
    node = start_node()
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: reports(destination), "the study is reported")
    [report] = reports(destination)
    assert report.PatientID == dcmread(study[0].file).PatientID
    assert _references(report) == {image.uid for image in study[:3]}
    assert "SOMEBODY-ELSE" not in node.log_text()


def test_the_same_uid_with_other_pixels_is_refused(peers: ModuleType, start_node, destination, study) -> None:
    node = start_node()
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    before = {file.name: file.read_bytes() for file in kept_dicom(node)}

    def darken(dataset: FileDataset) -> None:
        dataset.PixelData = (dataset.pixel_array // 2).astype("<u2").tobytes()

    change(study[0], darken)
    assert peers.send(files(study), node.port) == [CANNOT_UNDERSTAND, SUCCESS, SUCCESS, SUCCESS]
    peers.wait_for(lambda: reports(destination), "the study is reported")
    assert peers.send(files(study), node.port) == [CANNOT_UNDERSTAND, SUCCESS, SUCCESS, SUCCESS]
    assert before.items() <= {file.name: file.read_bytes() for file in kept_dicom(node)}.items()
    assert all("other pixels" in event["reason"] for event in node.events("object refused"))
    assert len(node.events("object refused")) == 2
    another = peers.SmallMammograms(study[0].file.parent / "another", seed=4).study(1)
    assert peers.send(files(another), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: len(reports(destination)) == 2, "another study is reported")  # by then a second report were
    assert {report.StudyInstanceUID for report in reports(destination)} == {study[0].study, another[0].study}


def test_a_huge_object_is_refused_without_being_held(peers: ModuleType, start_node, tmp_path: Path, study) -> None:
    node = start_node(largest_object_gigabytes=0.02)
    huge = tmp_path / "huge.dcm"
    dataset = dcmread(study[0].file)
    del dataset.PixelData
    dataset.save_as(huge)
    length = 2**31 - 2
    with huge.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little"))
        file.truncate(file.tell() + length)  # a hole: takes no room on the disk
    before = peers.resident_megabytes(node.pid)
    [status] = peers.send([huge], node.port)
    assert status is not None
    assert status & 0xF000 in {0xA000, 0xC000}
    assert peers.resident_megabytes(node.pid) - before < 60
    assert kept_dicom(node) == []
    assert peers.send(files(study[1:]), node.port) == [SUCCESS] * 3


# The clock --------------------------------------------------------------------------------------------------------

JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long days_ahead(void) {
    long days = 0;
    FILE *file = fopen(getenv("CLOCK_DAYS"), "r");
    if (file != NULL) {
        if (fscanf(file, "%ld", &days) != 1) days = 0;
        fclose(file);
    }
    return days;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += 86400 * days_ahead();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    int failed = ((int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday"))(now, zone);
    if (!failed) now->tv_sec += 86400 * days_ahead();
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where != NULL) *where = now.tv_sec;
    return now.tv_sec;
}
"""
"""The time of day moved by as many days as a file says. The clock that never goes back is left alone."""


def test_a_clock_that_jumps_costs_no_study_its_answer(
    peers: ModuleType, start_node, destination, study, tmp_path: Path
) -> None:
    if shutil.which("cc") is None:
        reason = "there is no C compiler to make a clock that jumps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    (tmp_path / "clock.c").write_text(JUMPING_CLOCK)
    library, days = tmp_path / "clock.so", tmp_path / "days"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    days.write_text("0")
    node = start_node({"LD_PRELOAD": str(library), "CLOCK_DAYS": str(days)}, quiet_seconds=3, expected_views=[])
    maker = peers.SmallMammograms(tmp_path / "images", seed=4)

    def heard_of(study: str) -> bool:
        return any(report.StudyInstanceUID == study for report in reports(destination))

    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    days.write_text("-400")  # while the study waits for quiet
    peers.wait_for(lambda: heard_of(study[0].study), "the study is reported though the clock went back")

    destination.status_for = lambda _: 0xA700
    second = maker.study(1)
    assert peers.send(files(second), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: destination.refusals, "the destination was tried in vain")
    days.write_text("400")  # beyond what results are tried for
    destination.status_for = lambda _: SUCCESS
    peers.wait_for(lambda: heard_of(second[0].study), "results that waited are delivered though the clock went on")
    assert [event["timestamp"][:4] for event in node.events("node started")] == [str(datetime.now(UTC).year)]

    third = maker.study(2)
    assert peers.send(files(third[:2]), node.port) == [SUCCESS] * 2
    days.write_text("0")
    node.kill()
    node.start()
    node.wait_until_it_listens()
    peers.wait_for(lambda: heard_of(third[0].study), "a study from the future is read after a restart")


# The destination --------------------------------------------------------------------------------------------------


def test_a_destination_that_takes_one_object_and_refuses_the_next(
    peers: ModuleType, start_node, destination, study
) -> None:
    asked: list[str] = []

    def only_the_first(uid: str) -> int:
        asked.append(uid)
        return SUCCESS if uid == asked[0] else 0xA900

    destination.status_for = only_the_first
    node = start_node()
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: node.events("results not sent"), "it is told that results were refused")
    assert len(asked) == len(set(asked)) > 1  # each was tried, none twice
    assert destination.uids() == {asked[0]}
    [told] = node.events("results not sent")
    assert len(told["reasons"]) == len(asked) - 1
    assert all("0xA900" in reason for reason in told["reasons"])


def test_a_destination_that_takes_one_object_and_hangs_up_on_the_next(
    peers: ModuleType, start_node, destination, study
) -> None:
    asked: list[str] = []

    def hang_up_on_the_second(uid: str) -> int | None:
        asked.append(uid)
        return None if len(asked) == 2 else SUCCESS

    destination.status_for = hang_up_on_the_second
    node = start_node()
    assert peers.send(files(study), node.port) == [SUCCESS] * 4
    peers.wait_for(lambda: node.events("results sent"), "the rest is sent later")
    stored = [arrival.uid for arrival in destination.arrivals]
    assert len(stored) == len(set(stored)) == len(set(asked))
    assert asked.count(asked[0]) == 1
    assert asked.count(asked[1]) == 2


# Helpers ----------------------------------------------------------------------------------------------------------


def _references(report: Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for evidence in report.CurrentRequestedProcedureEvidenceSequence
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def _association_request() -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MODALITY", "NODE"
    context = build_context("1.2.840.10008.1.1")
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _said(port: int, opening: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), 30)
    line.sendall(opening)
    return line


class Authority:
    """Signs certificates."""

    def __init__(self, name: str, folder: Path) -> None:
        self._key, self._folder, self._name = ec.generate_private_key(ec.SECP256R1()), folder, name
        self.certificate = folder / f"{name}.pem"
        signed = self._sign(name, self._key.public_key(), authority=True)
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for the loopback interface and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key"
        signed = self._sign(name, key.public_key(), authority=False)
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret

    def _sign(self, name: str, public: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _echo_by_tls(port: int, identity: tuple[Path, Path] | None, *, trusted: Path) -> bool:
    context = ssl.create_default_context(cafile=trusted)
    context.check_hostname = False
    if identity is not None:
        context.load_cert_chain(*identity)
    ae = AE("MODALITY")
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 60
    contexts = [build_context("1.2.840.10008.1.1")]
    association = ae.associate("127.0.0.1", port, contexts, ae_title="NODE", tls_args=(context, "localhost"))
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return answer.get("Status") == SUCCESS
