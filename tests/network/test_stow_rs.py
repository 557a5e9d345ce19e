import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import BreastTomosynthesisImageStorage

from mammoscope.network import CallerRefusal, ObjectRefusal, ObjectRefusedError, StowService, WebService

MakeObject = Callable[..., FileDataset]
TOKEN = {"Authorization": "Bearer secret"}
TYPE = 'multipart/related; type="application/dicom"; boundary=abc'


class Web:
    """A web service with STOW-RS: what it refused, and how to ask it."""

    def __init__(self, service: WebService) -> None:
        self.service = service
        self.callers: list[CallerRefusal] = []
        self.objects: list[ObjectRefusal] = []
        self.full: str | None = None

    def post(self, body: bytes, path: str = "/dicom-web/studies", **headers: str) -> httpx.Response:
        headers = {**TOKEN, "Content-Type": TYPE, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx.post(f"{self.service.url}{path}", content=body, headers=headers, timeout=60)


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


@pytest.fixture
def web(incoming: Path, receiver) -> Iterator[Web]:
    told = Web(WebService("127.0.0.1", 0, []))
    stow = StowService(
        incoming,
        receiver,
        {"modality": "secret", "archive": "other"},
        on_caller_refused=told.callers.append,
        on_object_refused=told.objects.append,
        back_pressure=lambda: told.full,
        largest_object=1 << 20,
        silence_seconds=1.0,
    )
    with WebService("127.0.0.1", 0, stow.routes()) as service:
        told.service = service
        yield told


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def body(*parts: bytes, kind: str = "application/dicom") -> bytes:
    head = f"--abc\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + b"--abc--\r\n"


def references(answer: httpx.Response, keyword: str) -> dict[str, int | None]:
    found = Dataset.from_json(answer.json()).get(keyword, [])
    return {str(item.ReferencedSOPInstanceUID): item.get("FailureReason") for item in found}


def test_objects_are_stored_as_they_were_sent(web: Web, incoming: Path, receiver, make_object: MakeObject) -> None:
    sent = [make_object(), make_object()]
    answer = web.post(body(*map(encoded, sent)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert references(answer, "ReferencedSOPSequence") == {image.SOPInstanceUID: None for image in sent}
    assert [dcmread(BytesIO(file)) for file in receiver.files] == sent
    assert {(r.calling_ae_title, r.address) for r in receiver.received} == {("modality", "127.0.0.1")}
    assert list(incoming.iterdir()) == []


def test_who_has_no_token_or_a_wrong_one_is_not_let_in(web: Web, receiver, make_object: MakeObject) -> None:
    for header in ("", "Bearer", "Bearer wrong", "Basic secret"):
        answer = web.post(body(encoded(make_object())), Authorization=header)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert web.callers == [CallerRefusal("", "127.0.0.1", "its bearer token is missing or wrong")] * 4
    assert web.post(body(encoded(make_object())), Authorization="bearer other").status_code == 200
    assert [r.calling_ae_title for r in receiver.received] == ["archive"]


def test_an_address_that_is_not_allowed(incoming: Path, receiver, make_object: MakeObject) -> None:
    stow = StowService(incoming, receiver, {"modality": "secret"}, allowed_networks=["10.0.0.0/8"])
    with WebService("127.0.0.1", 0, stow.routes()) as service:
        assert Web(service).post(body(encoded(make_object()))).status_code == 403
    assert receiver.received == []


@pytest.mark.parametrize("kind", ["application/dicom", "multipart/form-data; boundary=abc", "multipart/related", ""])
def test_a_body_of_another_type(web: Web, kind: str) -> None:
    assert web.post(body(b"x"), Content_Type=kind).status_code == 415


def test_a_part_of_another_type(web: Web, incoming: Path) -> None:
    answer = web.post(body(b"[]", kind="application/dicom+json"))
    assert (answer.status_code, answer.text) == (
        415,
        "a part is of type application/dicom+json; only application/dicom is stored here\n",
    )
    assert list(incoming.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no multipart at all", b"--abc\r\nContent-Type: application/dicom\r\n\r\nhalf"])
def test_a_body_that_is_none(web: Web, incoming: Path, data: bytes) -> None:
    assert web.post(data).status_code == 400
    assert list(incoming.iterdir()) == []


def test_some_stored_and_some_not(web: Web, receiver, make_object: MakeObject) -> None:
    good, anonymous = make_object(), make_object()
    del anonymous.SOPInstanceUID
    buffer = BytesIO()
    anonymous.save_as(buffer)
    answer = web.post(body(encoded(good), b"no DICOM", buffer.getvalue()))
    assert answer.status_code == 202
    assert references(answer, "ReferencedSOPSequence") == {good.SOPInstanceUID: None}
    other = Dataset.from_json(answer.json())[0x0008, 0x119A].value
    assert [item.FailureReason for item in other] == [0xC000, 0xC000]
    assert [refusal.status for refusal in web.objects] == [0xC000, 0xC000]
    assert len(receiver.received) == 1


def test_none_stored(web: Web, receiver, make_object: MakeObject) -> None:
    receiver.error = ObjectRefusedError("other pixels under the same UID", 0xA900)
    image = make_object()
    answer = web.post(body(encoded(image)))
    assert answer.status_code == 409
    assert references(answer, "FailedSOPSequence") == {image.SOPInstanceUID: 0xA900}
    assert web.objects == [
        ObjectRefusal("modality", "127.0.0.1", image.SOPClassUID, image.SOPInstanceUID, 0xA900, str(receiver.error))
    ]


def test_tomosynthesis_is_taken_here_too(web: Web, make_object: MakeObject) -> None:
    answer = web.post(body(encoded(make_object(sop_class=BreastTomosynthesisImageStorage))))
    assert answer.status_code == 200


def test_an_object_of_another_study(web: Web, make_object: MakeObject) -> None:
    image = make_object()
    assert web.post(body(encoded(image)), f"/dicom-web/studies/{image.StudyInstanceUID}").status_code == 200
    answer = web.post(body(encoded(image)), "/dicom-web/studies/1.2.3")
    assert answer.status_code == 409
    assert references(answer, "FailedSOPSequence") == {image.SOPInstanceUID: 0xA900}


def test_an_object_above_the_limit(web: Web, incoming: Path, make_object: MakeObject) -> None:
    image = make_object()
    image.PixelData = bytes(3 << 20)
    answer = web.post(body(encoded(image)))
    assert answer.status_code == 409
    assert web.objects[0].reason == "an object above the limit of 1048576 bytes was refused"
    # whoever sent several objects has to know which it was
    assert references(answer, "FailedSOPSequence") == {image.SOPInstanceUID: 0xC000}
    assert list(incoming.iterdir()) == []


def test_no_room(web: Web, receiver, make_object: MakeObject) -> None:
    web.full = "the disk is nearly full"
    answer = web.post(body(encoded(make_object())))
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "the disk is nearly full\n", "60")
    web.full = None
    receiver.error = OSError(28, "No space left on device")
    image = make_object()
    answer = web.post(body(encoded(image)))
    assert answer.status_code == 503
    assert references(answer, "FailedSOPSequence") == {image.SOPInstanceUID: 0xA700}


def test_a_body_that_does_not_go_on(web: Web, incoming: Path, make_object: MakeObject) -> None:
    data = body(encoded(make_object()))
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer secret\r\nContent-Type: {TYPE}\r\n"
    with socket.create_connection(("127.0.0.1", web.service.port), timeout=60) as connection:
        connection.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:500])
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert list(incoming.iterdir()) == []


def test_the_answer_is_dicom_json(web: Web, make_object: MakeObject) -> None:
    image = make_object()
    assert json.loads(web.post(body(encoded(image))).content) == {
        "00081190": {"vr": "UR"},
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [image.SOPClassUID]},
                    "00081155": {"vr": "UI", "Value": [image.SOPInstanceUID]},
                }
            ],
        },
    }


def test_a_body_that_drips_is_given_up(tmp_path: Path, receiver) -> None:
    """A byte each moment is no silence; the body as a whole must come on."""
    service = StowService(tmp_path, receiver, {"scanner": "right"}, silence_seconds=1.5)
    head = (
        "POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\nContent-Length: 100000\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\n\r\n--b'
    )
    with (
        WebService("127.0.0.1", 0, service.routes()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection,
    ):
        connection.sendall(head.encode())
        deadline, answer = time.monotonic() + 30, b""
        while not answer:
            assert time.monotonic() < deadline, "it waits for ever"
            connection.send(b"-")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_text_before_the_first_boundary_and_blanks_after_boundaries(web: Web, make_object: MakeObject) -> None:
    """What RFC 2046 section 5.1.1 allows, and gzip, and a slash at the end of the address."""
    sent = [make_object() for _ in range(2)]
    plain = body(*map(encoded, sent))
    odd = b"This is a message in MIME format.\r\n" + plain.replace(b"--abc\r\n", b"--abc \t\r\n") + b"the end\r\n"
    for content, path, more in (
        (odd, "/dicom-web/studies", {}),
        (plain, "/dicom-web/studies/", {}),
        (gzip.compress(plain), f"/dicom-web/studies/{sent[0].StudyInstanceUID}/", {"Content_Encoding": "gzip"}),
        (gzip.compress(odd), "/dicom-web/studies", {"Content_Encoding": "x-gzip"}),
    ):
        answer = web.post(content, path, **more)
        assert answer.status_code in (200, 202), (path, answer.text)
        assert str(sent[0].SOPInstanceUID) in references(answer, "ReferencedSOPSequence")


def test_a_coding_that_is_not_read_or_not_whole(web: Web, make_object: MakeObject) -> None:
    plain = body(encoded(make_object()))
    assert web.post(plain, Content_Encoding="br").status_code == 415
    for content, said in ((plain, "is not the gzip"), (gzip.compress(plain)[:-20], "in the middle of its gzip")):
        answer = web.post(content, Content_Encoding="gzip")
        assert (answer.status_code, said in answer.text) == (400, True)
