"""What is told when a DICOMweb peer answers badly; the good answers come from Orthanc and from our own service."""

import gzip
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mammoscope.network import (
    CertificateError,
    ConnectionLostError,
    DimsePeer,
    FoundStudy,
    NetworkError,
    PeerUnreachableError,
    QueryError,
    Receipt,
    Sender,
    StatusError,
    StorageService,
    StowService,
    WebClient,
    WebPeer,
    WebService,
    WebStatusError,
)

MakeObject = Callable[..., FileDataset]
Answer = Callable[[Request], Response]


@pytest.fixture
def peer() -> Iterator[Callable[[Answer], WebPeer]]:
    """A DICOMweb peer that answers everything as it is told."""
    started: list[WebService] = []

    def start(answer: Answer) -> WebPeer:
        routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
        started.append(WebService("127.0.0.1", 0, routes))
        started[-1].start()
        return WebPeer("archive", f"{started[-1].url}/dicom-web", token="secret")

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def file(tmp_path: Path, make_object: MakeObject) -> Path:
    path = tmp_path / "image.dcm"
    make_object().save_as(path, enforce_file_format=True)
    return path


def keep_nothing(_: object) -> Receipt:
    return Receipt.IGNORED


def test_objects_and_token_go_to_our_own_service_by_https(
    tmp_path: Path, certificates, receiver, make_object: MakeObject
) -> None:
    images = [make_object(), make_object()]
    files = [tmp_path / f"{number}.dcm" for number in range(2)]
    for image, path in zip(images, files, strict=True):
        image.save_as(path, enforce_file_format=True)
    ours = certificates.issue("node")
    stow = StowService(tmp_path / "incoming", receiver, {"sender": "secret"})
    with WebService("127.0.0.1", 0, stow.routes(), tls=ours) as service:
        node = WebPeer("node", f"{service.url}/dicom-web", token="secret")
        sendings = Sender("TESTER", tls=ours).send(files, node)
        assert [(s.sop_instance_uid, s.error) for s in sendings] == [(i.SOPInstanceUID, None) for i in images]
        with pytest.raises(CertificateError, match=r"shows a certificate that we do not trust: (self-signed|unable)"):
            Sender("TESTER").send(files, node)
        with pytest.raises(WebStatusError, match="with HTTP status 401: it does not accept our token; check it"):
            Sender("TESTER", tls=ours).send(files, WebPeer("node", node.url, token="other"))
        plain = WebPeer("node", node.url.replace("https", "http"))
        with pytest.raises(NetworkError, match=r"node \(http://127"):
            Sender("TESTER").send(files, plain)
    assert [r.sop_instance_uid for r in receiver.received] == [i.SOPInstanceUID for i in images]


def test_an_object_that_is_refused_does_not_keep_the_next_back(
    tmp_path: Path, receiver, make_object: MakeObject
) -> None:
    images = [make_object(), make_object()]
    del images[0].StudyInstanceUID
    files = [tmp_path / f"{number}.dcm" for number in range(2)]
    for image, path in zip(images, files, strict=True):
        image.save_as(path, enforce_file_format=True)
    stow = StowService(tmp_path / "incoming", receiver, {"sender": "secret"})
    with WebService("127.0.0.1", 0, stow.routes()) as service:
        refused, sent = Sender("TESTER").send(files, WebPeer("node", f"{service.url}/dicom-web", token="secret"))
    assert isinstance(refused.error, StatusError)
    assert refused.error.status == 0xC000
    assert not refused.error.worth_retrying
    assert str(refused.error).partition(";")[0].endswith("with status 0xC000: it cannot understand it")
    assert sent.error is None


def test_a_connection_that_breaks_after_the_first_object_keeps_its_outcome(
    peer, tmp_path: Path, make_object: MakeObject
) -> None:
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for path in files:
        make_object().save_as(path, enforce_file_format=True)
    answers = iter([200, 503, 200])
    sent: list[str] = []
    first, second, third = WebClient().send(files, peer(lambda _: Response(status_code=next(answers))), sent.append)
    assert isinstance(second.error, WebStatusError)
    assert second.error.worth_retrying
    assert (first.error, third.error) == (None, None)
    assert sent == [first.sop_instance_uid, third.sop_instance_uid]


def test_files_that_cannot_be_sent(tmp_path: Path, peer, file: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM at all")
    archive = peer(lambda _: Response(status_code=200))
    missing, damaged, sent = WebClient().send([tmp_path / "missing.dcm", text, file], archive)
    assert str(missing.error) == "object missing.dcm cannot be read: No such file or directory"
    assert str(damaged.error) == "text.dcm is no DICOM file with a SOP Instance UID"
    assert sent.error is None


@pytest.mark.parametrize(
    ("status", "words", "worth_retrying"),
    [
        (400, "it cannot understand it; its own log says which attribute or rule", False),
        (403, "it does not allow us this; check our token and what it permits", True),
        (404, "there is no such thing; check the address", True),
        (413, "it is larger than it takes; raise the limit there", False),
        (415, "it does not take this transfer syntax; allow it there", False),
        (503, "it is busy or being restarted", True),
    ],
)
def test_an_http_status_in_words(peer, file: Path, status: int, words: str, worth_retrying: bool) -> None:
    archive = peer(lambda _: Response(status_code=status))
    with pytest.raises(WebStatusError, match=f"with HTTP status {status}: {words}") as caught:
        WebClient().check(archive)
    assert caught.value.worth_retrying is worth_retrying
    if worth_retrying:
        with pytest.raises(WebStatusError):
            WebClient().send([file], archive)
    else:
        [sending] = WebClient().send([file], archive)
        assert isinstance(sending.error, WebStatusError)


def test_the_token_is_sent_and_never_shown(peer) -> None:
    given: list[str] = []

    def answer(request: Request) -> Response:
        given.append(request.headers["authorization"])
        return Response("[]", media_type="application/dicom+json")

    archive = peer(answer)
    WebClient().check(archive)
    assert given == ["Bearer secret"]
    assert "secret" not in repr(archive)
    assert "secret" not in str(archive)


def test_nobody_there(free_ports, file: Path) -> None:
    [port] = free_ports(1)
    archive = WebPeer("archive", f"http://127.0.0.1:{port}/dicom-web")
    for call in (lambda: WebClient().check(archive), lambda: WebClient().send([file], archive)):
        with pytest.raises(
            PeerUnreachableError, match=rf"archive \(http://127.0.0.1:{port}/dicom-web\) cannot be reached"
        ):
            call()


def test_a_peer_that_falls_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = WebPeer("archive", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConnectionLostError, match=r"broke off or fell silent \(ReadTimeout\)"):
            WebClient(timeout_seconds=0.3).check(silent)


@pytest.mark.parametrize("body", ["<html>", "{}", '[{"0020000D": 3}]', "[3]"])
def test_an_answer_that_is_no_dicom_json(peer, body: str) -> None:
    archive = peer(lambda _: Response(body, media_type="application/dicom+json"))
    with pytest.raises(WebStatusError, match="answered a query with something else than DICOM JSON"):
        list(WebClient().find_studies(archive))


def test_no_match_is_no_error(peer) -> None:
    assert list(WebClient().find_studies(peer(lambda _: Response(status_code=204)))) == []


def test_a_source_that_ignores_paging_ends(monkeypatch, peer) -> None:
    monkeypatch.setattr("mammoscope.network.dicomweb.PAGE", 1)
    one = '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]'
    archive = peer(lambda _: Response(one, media_type="application/dicom+json"))
    assert list(WebClient().find_studies(archive)) == [FoundStudy("1.2.3")]


def test_nothing_of_the_patient_is_asked_for(peer) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: Request) -> Response:
        asked.append(dict(request.query_params))
        return Response("[]", media_type="application/dicom+json")

    archive = peer(answer)
    assert list(WebClient().find_studies(archive, {"ModalitiesInStudy": "MG"})) == []
    assert asked == [
        {
            "ModalitiesInStudy": "MG",
            "includefield": "StudyDate,ModalitiesInStudy,NumberOfStudyRelatedInstances",
            "limit": "100",
            "offset": "0",
        }
    ]
    with pytest.raises(QueryError, match="'Modality in study' is no keyword"):
        list(WebClient().find_studies(archive, {"Modality in study": "MG"}))


def test_a_retrieval_that_breaks_off_gives_what_came_and_says_so(peer, file: Path, tmp_path: Path, receiver) -> None:
    head = b"--abc\r\nContent-Type: application/dicom\r\n\r\n"
    whole = head + file.read_bytes() + b"\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=abc'
    archive = peer(lambda _: Response(whole + head + b"half", media_type=kind))
    with pytest.raises(ConnectionLostError, match="broke off the retrieval: the body ends before its last boundary"):
        WebClient().retrieve(archive, "1.2.3", receiver, tmp_path / "incoming")
    assert [(r.calling_ae_title, r.address) for r in receiver.received] == [("archive", "127.0.0.1")]
    assert list((tmp_path / "incoming").iterdir()) == []


def test_what_we_refuse_of_a_study_is_counted(peer, file: Path, tmp_path: Path, receiver) -> None:
    kind = 'multipart/related; type="application/dicom"; boundary=abc'
    head = b"--abc\r\nContent-Type: application/dicom\r\n\r\n"
    body = head + file.read_bytes() + b"\r\n" + head + b"no DICOM at all" + b"\r\n--abc--\r\n"
    ended = WebClient().retrieve(
        peer(lambda _: Response(body, media_type=kind)), "1.2.3", receiver, tmp_path / "incoming"
    )
    assert (ended.completed, ended.failed, ended.complete) == (1, 1, False)
    assert ended.reasons == ("a data set that cannot be parsed was refused",)


def test_an_answer_that_is_no_multipart(peer, tmp_path: Path) -> None:
    archive = peer(lambda _: Response("hello", media_type="text/plain"))
    with pytest.raises(WebStatusError, match=r"answered the retrieval of study 1\.2\.3 with no DICOM objects"):
        WebClient().retrieve(archive, "1.2.3", keep_nothing, tmp_path)


def test_a_sender_picks_the_transport(service: StorageService, receiver, file: Path) -> None:
    node = DimsePeer("node", "NODE", "127.0.0.1", service.port)
    sender = Sender("TESTER")
    sender.check(node)
    [sending] = sender.send([file], node)
    assert sending.error is None
    assert len(receiver.received) == 1


def test_an_answer_that_inflates_to_gigabytes_is_given_up_early(peer) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join([*(deflater.compress(b" " * (1 << 24)) for _ in range(32)), deflater.flush()])
    assert len(bomb) < 1 << 20  # for 512 MiB
    headers = {"Content-Encoding": "gzip"}
    source = peer(lambda _: Response(bomb, media_type="application/dicom+json", headers=headers))
    tracemalloc.start()
    try:
        with pytest.raises(WebStatusError, match="answered with more than 8 MiB, which no answer to a query has"):
            list(WebClient().find_studies(source, {}))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "body", "sentence"),
    [
        ("br", b"anything", "a compression that was not asked for"),
        ("gzip", b"nothing of the kind", "damaged compressed"),
    ],
)
def test_an_answer_in_another_compression_is_told(peer, encoding: str, body: bytes, sentence: str) -> None:
    source = peer(lambda _: Response(body, headers={"Content-Encoding": encoding}))
    with pytest.raises(WebStatusError, match=sentence):
        list(WebClient().find_studies(source, {}))


def test_a_compressed_answer_is_read(peer) -> None:
    study = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]'
    source = peer(lambda _: Response(gzip.compress(study), headers={"Content-Encoding": "gzip"}))
    [found] = WebClient().find_studies(source, {})
    assert found.study_instance_uid == "1.2.3"
