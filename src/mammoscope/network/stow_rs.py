"""`StowService`: receives objects by STOW-RS (DICOM PS3.18 section 10.5)."""

import asyncio
import hmac
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mammoscope.network.acceptor import LARGEST_OBJECT, BackPressure, refuse_when_full
from mammoscope.network.access_control import CallerRefusal, CallerRules, OnCallerRefused, RefusalReport
from mammoscope.network.c_store_scp import NETWORK_TIMEOUT
from mammoscope.network.errors import MultipartError, ObjectRefusedError
from mammoscope.network.multipart import DICOM, Part, PartFiles, boundary_of
from mammoscope.network.received import (
    DOES_NOT_MATCH_SOP_CLASS,
    OUT_OF_RESOURCES,
    ObjectRefusal,
    ReceivedObject,
    Receiver,
    identify,
    out_of_resources,
)

RETRY_AFTER_SECONDS = 60
MOST_REQUESTS = 50
"""Served at once; more are put off."""
SLOWEST_BYTES_A_SECOND = 1000
"""Of a body as a whole, so that one that drips holds its place no longer than one that is silent."""

_LARGEST_PIECE = 1 << 20

log = structlog.get_logger(__name__)


class StowService:
    """Takes objects as a web service and hands each to the same ``receive`` as `StorageService`.

    Parameters
    ----------
    incoming
        Folder for objects on their way in, on the file system on which ``receive`` keeps them.
    tokens
        Who may store: the holder's name, which becomes `ReceivedObject.calling_ae_title`, and the bearer token
        (RFC 6750).
    allowed_networks
        Addresses and networks that may call; empty for all.

    Notes
    -----
    Answered are 200 (all stored), 202 (some), 409 (none), 400 (no multipart body, or no object in it), 401 (no or a
    wrong token), 403 (address not allowed), 408 (fell silent), 415 (not ``multipart/related`` of
    ``application/dicom``) and 503 (no room now); 200, 202, 409 and 503 with the data set of Table I.1-1 where at least
    one object came.
    """

    def __init__(
        self,
        incoming: Path,
        receive: Receiver,
        tokens: Mapping[str, str],
        *,
        allowed_networks: Sequence[str] = (),
        on_caller_refused: OnCallerRefused | None = None,
        on_object_refused: Callable[[ObjectRefusal], None] | None = None,
        back_pressure: BackPressure | None = None,
        largest_object: int = LARGEST_OBJECT,
        silence_seconds: float = NETWORK_TIMEOUT,
    ) -> None:
        self._incoming = incoming
        self._receive = receive
        self._tokens = {name: token.encode() for name, token in tokens.items()}
        self._rules = CallerRules(networks=tuple(allowed_networks))
        self._tell_caller_refused = on_caller_refused
        self._caller_refused = RefusalReport(self._report_refusal)
        self._in_hand = 0
        self._tell_object_refused = on_object_refused
        self._back_pressure: BackPressure = back_pressure or (lambda: None)
        self._largest_object = largest_object
        self._silence_seconds = silence_seconds

    def routes(self) -> list[Route]:
        """Give what a `WebService` serves."""
        return [
            Route(f"/dicom-web/studies{study}{slash}", self._store, methods=["POST"])
            for study in ("", "/{study}")
            for slash in ("", "/")
        ]

    async def _store(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        if not self._rules.may_connect(address):
            return self._refuse_caller(address, "its address is not allowed", 403)
        holder = self._holder(request)
        if holder is None:
            return self._refuse_caller(address, "its bearer token is missing or wrong", 401)
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is None:
            return _plain(f'a body of multipart/related; type="{DICOM}" is stored here', 415)
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            return _plain(f"a body in the coding {coding[:20]} is not read; send it plain or as gzip", 415)
        reason = self._back_pressure()
        if self._in_hand >= MOST_REQUESTS:
            reason = f"{MOST_REQUESTS} requests are being served already"
        if reason is not None:
            return _plain(reason, 503)
        self._in_hand += 1
        try:
            return await self._take_all(request, boundary, _Answer(holder, address, request.path_params.get("study")))
        finally:
            self._in_hand -= 1

    def _holder(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = token.strip().encode()
        matches = [name for name, known in self._tokens.items() if hmac.compare_digest(known, given)]
        return matches[0] if matches else None

    def _refuse_caller(self, address: str, reason: str, status: int) -> Response:
        self._caller_refused(CallerRefusal("", address, reason))
        return _plain(reason, status)

    def _report_refusal(self, refusal: CallerRefusal) -> None:
        log.warning("web caller refused", address=refusal.address, reason=refusal.reason, times=refusal.times)
        if self._tell_caller_refused is not None:
            self._tell_caller_refused(refusal)

    async def _take_all(self, request: Request, boundary: str, answer: "_Answer") -> Response:
        self._incoming.mkdir(parents=True, exist_ok=True)
        files = PartFiles(boundary, self._incoming, self._largest_object, lambda: refuse_when_full(self._back_pressure))
        try:
            async for piece in _decoded(request, self._pieces(request)):
                for part in await run_in_threadpool(files.feed, piece):
                    if part.content_type != DICOM:
                        part.discard()
                        return _plain(f"a part is of type {part.content_type}; only {DICOM} is stored here", 415)
                    await run_in_threadpool(self._take, part, answer)
            files.finish()
        except MultipartError as error:
            return _plain(str(error), 400)
        except TimeoutError:
            return _plain("the body stopped arriving", 408)
        except ClientDisconnect:
            return _plain("the body was cut off", 400)
        except OSError as error:  # no room for even an empty file
            return _plain(str(out_of_resources(error)), 503)
        finally:
            await run_in_threadpool(files.close)
        return answer.response()

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        stream, deadline = request.stream(), time.monotonic() + self._silence_seconds
        while True:
            allowed = min(self._silence_seconds, deadline - time.monotonic())
            try:
                piece = await asyncio.wait_for(anext(stream), max(allowed, 0.001))
            except StopAsyncIteration:
                return
            begun = time.monotonic()
            yield piece
            # What we do with it ourselves is not the sender's time.
            deadline += len(piece) / SLOWEST_BYTES_A_SECOND + time.monotonic() - begun

    def _take(self, part: Part, answer: "_Answer") -> None:
        received: ReceivedObject | None = None
        try:
            if part.refusal is not None:
                received = _as_far_as_it_came(part, answer)
                raise part.refusal
            received = identify(part.path, answer.holder, answer.address)
            answer.check_study(received)
            self._receive(received)
            answer.stored(received)
        except ObjectRefusedError as error:
            self._refuse(received, error, answer)
        except OSError as error:
            self._refuse(received, out_of_resources(error), answer)
        finally:
            part.discard()

    def _refuse(self, received: ReceivedObject | None, error: ObjectRefusedError, answer: "_Answer") -> None:
        log.warning("object refused", caller=answer.holder, status=f"0x{error.status:04X}", reason=str(error))
        answer.failed(received, error.status)
        if self._tell_object_refused is not None:
            sop_class = received.sop_class_uid if received else ""
            sop_instance = received.sop_instance_uid if received else ""
            self._tell_object_refused(
                ObjectRefusal(answer.holder, answer.address, sop_class, sop_instance, error.status, str(error))
            )


def _as_far_as_it_came(part: Part, answer: "_Answer") -> ReceivedObject | None:
    """Which object a refused part was, if its beginning says so."""
    try:
        part.path.write_bytes(part.head)
        return identify(part.path, answer.holder, answer.address)
    except (ObjectRefusedError, OSError):
        return None


async def _decoded(request: Request, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body without its content coding, never more than a piece of `_LARGEST_PIECE` bytes in memory.

    Raises
    ------
    MultipartError
        If it is not whole gzip although it says so.
    """
    if request.headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        async for piece in pieces:
            yield piece
        return
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        async for piece in pieces:
            packed = piece
            while packed:
                yield await run_in_threadpool(unpacker.decompress, packed, _LARGEST_PIECE)
                packed = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error:
        raise MultipartError("the body is not the gzip that its content coding says") from None
    if not unpacker.eof:
        raise MultipartError("the body ends in the middle of its gzip stream")


class _Answer:
    """What became of each object of one request: the data set of DICOM PS3.18 Table I.1-1."""

    def __init__(self, holder: str, address: str, study: str | None) -> None:
        self.holder = holder
        self.address = address
        self._study = study
        self._stored: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._unknown: list[dict[str, Any]] = []
        self._reasons: set[int] = set()

    def check_study(self, received: ReceivedObject) -> None:
        if self._study is not None and received.study_instance_uid != self._study:
            raise ObjectRefusedError(
                f"object {received.sop_instance_uid} was refused because it is not of the study that it was stored to",
                DOES_NOT_MATCH_SOP_CLASS,
            )

    def stored(self, received: ReceivedObject) -> None:
        self._stored.append(_reference(received))

    def failed(self, received: ReceivedObject | None, reason: int) -> None:
        self._reasons.add(reason)
        why = {"00081197": {"vr": "US", "Value": [reason]}}
        if received is None:
            self._unknown.append(why)
        else:
            self._failed.append({**_reference(received), **why})

    def response(self) -> Response:
        failures = self._failed + self._unknown
        if not failures and not self._stored:
            return _plain("the body holds no object", 400)
        dataset: dict[str, Any] = {"00081190": {"vr": "UR"}}
        for tag, items in (("00081199", self._stored), ("00081198", self._failed), ("0008119A", self._unknown)):
            if items:
                dataset[tag] = {"vr": "SQ", "Value": items}
        if not failures:
            status = 200
        elif self._stored:
            status = 202
        else:
            status = 503 if self._reasons == {OUT_OF_RESOURCES} else 409
        return JSONResponse(dataset, status, _headers(status), media_type="application/dicom+json")


def _reference(received: ReceivedObject) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [received.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [received.sop_instance_uid]},
    }


def _plain(words: str, status: int) -> Response:
    return PlainTextResponse(words + "\n", status, _headers(status))


def _headers(status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
