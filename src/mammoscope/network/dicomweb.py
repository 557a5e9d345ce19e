"""`WebClient`: finds, fetches and stores objects by DICOMweb (DICOM PS3.18)."""

import http.client
import json
import secrets
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from mammoscope.network.acceptor import LARGEST_OBJECT
from mammoscope.network.c_store_scu import Sending
from mammoscope.network.errors import (
    CertificateError,
    ConnectionLostError,
    MultipartError,
    NetworkError,
    PeerUnreachableError,
    StatusError,
    UnsendableObjectError,
    WebStatusError,
)
from mammoscope.network.multipart import DICOM, PartFiles, boundary_of
from mammoscope.network.peers import WebPeer, in_words
from mammoscope.network.query_retrieve import (
    STUDY_KEYS,
    FoundStudy,
    Retrieval,
    check_keywords,
    found_study,
    matches,
    study_date_range,
)
from mammoscope.network.received import Receiver, take
from mammoscope.network.tls import TLSConfig

PAGE = 100
"""Studies asked for at once."""
PIECE = 1 << 18
"""Bytes read from a file or a connection at once."""
MOST_ANSWER_BYTES = 8 << 20
"""Of the body of an answer in JSON; one of a hundred studies has some hundred kilobytes."""
_JSON = "application/dicom+json"


class WebClient:
    """A user agent of DICOMweb.

    Parameters
    ----------
    timeout_seconds
        How long to wait for a connection, and for the next piece of an answer.
    tls
        Trusted certificates beside the system's own, and a certificate to show to servers that ask for one.
    """

    def __init__(self, timeout_seconds: float = 30.0, tls: TLSConfig | None = None) -> None:
        self._timeout = timeout_seconds
        self._tls = tls

    def find_studies(
        self,
        source: WebPeer,
        where: Mapping[str, str] | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> Iterator[FoundStudy]:
        """Ask for studies by QIDO-RS, page by page (section 10.6).

        Parameters
        ----------
        where
            What they must match, by keyword, for example ``{"ModalitiesInStudy": "MG"}``.
        since, until
            First and last study date.

        Raises
        ------
        QueryError
            If a keyword is unknown.
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        where = where or {}
        check_keywords(where)
        query = {**where, "includefield": ",".join(STUDY_KEYS[1:])}
        if since or until:
            query["StudyDate"] = study_date_range(since, until)
        seen: set[str] = set()
        with self._client(source) as client:
            while True:
                page = self._page(client, source, query, len(seen))
                fresh = [study for study in page if study.study_instance_uid not in seen]
                yield from (study for study in fresh if matches(study, where))
                seen.update(study.study_instance_uid for study in fresh)
                if len(page) < PAGE or not fresh:  # a source that ignores the offset gives the same page for ever
                    return

    def find_instances(self, source: WebPeer, study: str) -> frozenset[str]:
        """Ask for the SOP Instance UIDs of a study by QIDO-RS, page by page (section 10.6).

        Raises
        ------
        NetworkError
            If the source cannot be asked, or answers with an error.
        """
        found: set[str] = set()
        with self._client(source) as client:
            while True:
                path = f"/studies/{study}/instances"
                page = self._matches(client, source, path, {"includefield": "SOPInstanceUID"}, len(found))
                fresh = {str(match.get("SOPInstanceUID") or "") for match in page} - found - {""}
                found |= fresh
                if len(page) < PAGE or not fresh:
                    return frozenset(found)

    def check(self, peer: WebPeer) -> None:
        """Ask a peer for one study, to see that it is there, speaks QIDO-RS and takes our token.

        Raises
        ------
        NetworkError
            If not.
        """
        with self._client(peer) as client:
            answer = client.get("/studies", params={"limit": "1"}, headers={"Accept": _JSON})
            _check(answer, peer, "a query")

    def retrieve(self, source: WebPeer, study: str, receive: Receiver, folder: Path) -> Retrieval:
        """Fetch all objects of a study by WADO-RS (section 10.4), as they are encoded there.

        Parameters
        ----------
        receive
            Given each object in turn, as a file that vanishes when it returns.
        folder
            For objects on their way in.

        Raises
        ------
        NetworkError
            If the source cannot be asked, answers with an error, or its answer breaks off; what came until then was
            given to ``receive``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        headers = {
            "Accept": f'multipart/related; type="{DICOM}"; transfer-syntax=*',
            "Accept-Encoding": "identity",
        }
        with (
            self._client(source) as client,
            client.stream("GET", f"/studies/{study}", headers=headers) as answer,
        ):
            _check(answer, source, f"the retrieval of study {study}")
            boundary = boundary_of(answer.headers.get("content-type", ""))
            if boundary is None:
                raise WebStatusError(f"{source} answered the retrieval of study {study} with no DICOM objects", 415)
            return self._take_all(answer, PartFiles(boundary, folder, LARGEST_OBJECT, lambda: None), receive, source)

    def send(
        self, objects: Sequence[Path], destination: WebPeer, on_sent: Callable[[str], None] | None = None
    ) -> tuple[Sending, ...]:
        """Store files by STOW-RS (section 10.5), each in a request of its own, in order.

        Parameters
        ----------
        on_sent
            Called with the SOP Instance UID of each object as soon as it is acknowledged, before the next is sent.

        Returns
        -------
        tuple of Sending
            One an object. An object that the peer does not take is no reason to keep the others back.

        Raises
        ------
        NetworkError
            If the peer cannot be reached or does not let us in, and so nothing was sent.
        """
        sendings: list[Sending] = []
        with self._client(destination) as client:
            for file in objects:
                sending = self._send_one(client, file, destination)
                nothing_sent = all(s.error is not None for s in sendings)
                if sending.error is not None and nothing_sent and not _is_about_the_object(sending.error):
                    raise sending.error
                sendings.append(sending)
                if on_sent is not None and sending.error is None:
                    on_sent(sending.sop_instance_uid)
        return tuple(sendings)

    def _send_one(self, client: httpx.Client, file: Path, destination: WebPeer) -> Sending:
        uid = file.name
        try:
            uid = str(dcmread(file, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
            self._store(client, file, uid, destination)
        except httpx.HTTPError as error:
            return Sending(uid, _in_words(error, destination))
        except NetworkError as error:
            return Sending(uid, error)
        except OSError as error:
            return Sending(uid, UnsendableObjectError(f"object {uid} cannot be read: {error.strerror}"))
        except (InvalidDicomError, AttributeError):
            return Sending(uid, UnsendableObjectError(f"{uid} is no DICOM file with a SOP Instance UID"))
        return Sending(uid)

    def _page(self, client: httpx.Client, source: WebPeer, query: Mapping[str, str], offset: int) -> list[FoundStudy]:
        matches = self._matches(client, source, "/studies", query, offset)
        try:
            return [study for study in map(found_study, matches) if study is not None]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _no_json(source) from None

    def _matches(
        self, client: httpx.Client, source: WebPeer, path: str, query: Mapping[str, str], offset: int
    ) -> list[Dataset]:
        params = {**query, "limit": str(PAGE), "offset": str(offset)}
        headers = {"Accept": _JSON, "Accept-Encoding": "gzip"}
        with client.stream("GET", path, params=params, headers=headers) as answer:
            _check(answer, source, "a query")
            content = _content(answer, source)
        if answer.status_code == 204 or not content:
            return []
        try:
            matches = json.loads(content)
            if not isinstance(matches, list):
                raise _no_json(source)
            return [Dataset.from_json(match) for match in matches]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise _no_json(source) from None

    def _take_all(self, answer: httpx.Response, files: PartFiles, receive: Receiver, source: WebPeer) -> Retrieval:
        completed, failed, reasons, host = 0, [], [], httpx.URL(source.url).host
        try:
            for piece in answer.iter_bytes(PIECE):
                for part in files.feed(piece):
                    try:
                        uid, refusal = take(part.path, receive, source.name, host, part.refusal)
                    finally:
                        part.discard()
                    if refusal is None:
                        completed += 1
                    else:
                        failed.append(uid)
                        reasons.append(str(refusal))
            files.finish()
        except MultipartError as error:
            raise ConnectionLostError(f"{source} broke off the retrieval: {error}") from None
        except OSError as error:
            raise NetworkError(f"nothing can be fetched from {source}: {error.strerror}; make room here") from None
        finally:
            files.close()
        return Retrieval(completed, len(failed), tuple(uid for uid in failed if uid), tuple(reasons))

    def _store(self, client: httpx.Client, file: Path, uid: str, destination: WebPeer) -> None:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Accept": _JSON,
            "Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}',
            "Content-Length": str(len(head) + file.stat().st_size + len(tail)),
        }

        def body() -> Iterator[bytes]:
            yield head
            with file.open("rb") as data:
                while piece := data.read(PIECE):
                    yield piece
            yield tail

        with client.stream("POST", "/studies", content=body(), headers=headers) as answer:
            content = _content(answer, destination)
        failure = _failure_reason(content)
        if failure is not None:
            raise StatusError(
                f"{destination} refused object {uid} with status 0x{failure:04X}: {in_words(failure)}", failure
            )
        _check(answer, destination, f"object {uid}")

    @contextmanager
    def _client(self, peer: WebPeer) -> Iterator[httpx.Client]:
        verify = self._tls.calling_https() if self._tls is not None else ssl.create_default_context()
        headers = {"Authorization": f"Bearer {peer.token}"} if peer.token else {}
        try:
            with httpx.Client(base_url=peer.url, headers=headers, verify=verify, timeout=self._timeout) as client:
                yield client
        except httpx.HTTPError as error:
            raise _in_words(error, peer) from None


def _no_json(source: WebPeer) -> WebStatusError:
    return WebStatusError(f"{source} answered a query with something else than DICOM JSON", 415)


def _check(answer: httpx.Response, peer: WebPeer, what: str) -> None:
    status = answer.status_code
    if status < 300:
        return
    words = {
        401: "it does not accept our token; check it",
        403: "it does not allow us this; check our token and what it permits",
        404: "there is no such thing; check the address",
    }.get(status, http.client.responses.get(status, "no reason given"))
    raise WebStatusError(f"{peer} refused {what} with HTTP status {status}: {words}", status)


def _content(answer: httpx.Response, peer: WebPeer) -> bytes:
    """The body of an answer, decompressed piece by piece: some kilobytes may stand for gigabytes.

    Raises
    ------
    WebStatusError
        If it is larger than any answer to what we ask, or compressed in a way that nobody asked for.
    """
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise WebStatusError(f"{peer} answered in a compression that was not asked for", 415)
    content = bytearray()
    inflater = None if encoding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for piece in answer.iter_raw():
            room = MOST_ANSWER_BYTES + 1 - len(content)
            content += piece[:room] if inflater is None else inflater.decompress(piece, room)
            if len(content) > MOST_ANSWER_BYTES:
                raise WebStatusError(
                    f"{peer} answered with more than {MOST_ANSWER_BYTES >> 20} MiB, which no answer to a query has; "
                    "check what is at its address",
                    413,
                )
    except zlib.error:
        raise WebStatusError(f"{peer} answered with damaged compressed data", 415) from None
    return bytes(content)


def _failure_reason(content: bytes) -> int | None:
    """Read the status of the one object that was stored, in the same numbers as C-STORE's (PS3.18 Table I.2-2)."""
    try:
        dataset: dict[str, Any] = json.loads(content)
        for tag in ("00081198", "0008119A"):
            for item in dataset.get(tag, {}).get("Value", []):
                return int(item["00081197"]["Value"][0])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None  # no answer of that kind: HTTP's own status says what happened
    return None


def _is_about_the_object(error: NetworkError) -> bool:
    return isinstance(error, (StatusError, UnsendableObjectError)) or not error.worth_retrying


def _in_words(error: httpx.HTTPError, peer: WebPeer) -> NetworkError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateError(
            f"{peer} shows a certificate that we do not trust: {cause.verify_message}; renew it, or add who signed it"
            " to our trusted certificates"
        )
    if isinstance(cause, ssl.SSLError):
        return CertificateError(f"{peer} and we agree on no TLS connection ({cause.reason}); check that it is https")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return PeerUnreachableError(f"{peer} cannot be reached: {error or 'no answer'}; check its address")
    return ConnectionLostError(f"{peer} broke off or fell silent ({type(error).__name__}); it is tried again later")
