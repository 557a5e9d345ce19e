"""`StorageService`: receives objects by C-STORE, answers C-ECHO, and storage commitment where it is asked to.

A data set is written to disk while it arrives, so that memory stays flat whatever its size. Whoever is given the
complete file keeps it, and only then is the peer told "success".
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from mammoscope.lifecycle import Running
from mammoscope.network.acceptor import (
    LARGEST_OBJECT,
    MAX_PDU,
    MOST_ASSOCIATIONS,
    ApplicationEntity,
    BackPressure,
    GuardedServer,
    IncomingFile,
    SharedContexts,
    give_up,
    refuse_when_full,
)
from mammoscope.network.access_control import CallerRefusal, CallerRules, OnCallerRefused, RefusalReport
from mammoscope.network.errors import ObjectRefusedError, ServiceError
from mammoscope.network.received import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    SUCCESS,
    ObjectRefusal,
    ReceivedObject,
    Receiver,
    identify,
    out_of_resources,
)
from mammoscope.network.sop_classes import STORED_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from mammoscope.network.tls import TLSConfig

NETWORK_TIMEOUT = 60.0
"""Seconds of silence after which an association is ended."""

log = structlog.get_logger(__name__)


class Extension(Protocol):
    """A service beside storage on the same port."""

    sop_class: UID

    def handlers(self) -> list[evt.EventHandlerType]:
        """What it answers."""


class StorageService(Running):
    """A storage SCP (DICOM PS3.4 Annex B) that hands every whole object to ``receive``.

    Parameters
    ----------
    ae_title
        Ours; an association that calls another is rejected.
    incoming
        Folder for objects on their way in, on the file system on which ``receive`` keeps them.
    receive
        Called in the association's thread, also for several objects at once. The peer is told "success" when it
        returns; `ObjectRefusedError` is answered with its status and `OSError` with 0xA700.
    host, port
        Address to listen on; port 0 takes a free one, see `port`.
    plain
        Whether to listen on ``port``, without TLS.
    tls, tls_port
        Listen on this port too, by mutual TLS; port 0 takes a free one.
    allowed_callers, allowed_networks
        Who may call, see `CallerRules`; empty for all.
    on_caller_refused, on_object_refused
        Told who or what was not taken, in the thread where it happened.
    back_pressure
        Asked at the beginning of each object why none can be taken now. The peer is answered with its words and
        0xA700; nothing of the object is kept.
    largest_object
        Bytes. A larger one is answered with 0xC000, and leaves the disk while the rest of it still arrives.
    silence_seconds
        A peer that says nothing for so long, also in the middle of an object, is given up.
    extensions
        Services beside storage on the same port, for example `CommitmentService`.
    """

    def __init__(
        self,
        ae_title: str,
        incoming: Path,
        receive: Receiver,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        plain: bool = True,
        tls: TLSConfig | None = None,
        tls_port: int | None = None,
        allowed_callers: Sequence[str] = (),
        allowed_networks: Sequence[str] = (),
        on_caller_refused: OnCallerRefused | None = None,
        on_object_refused: Callable[[ObjectRefusal], None] | None = None,
        back_pressure: BackPressure | None = None,
        largest_object: int = LARGEST_OBJECT,
        silence_seconds: float = NETWORK_TIMEOUT,
        extensions: Sequence[Extension] = (),
    ) -> None:
        self._incoming = incoming
        self._receive = receive
        self._host = host
        self._plain = plain
        self._tls = tls
        self._rules = CallerRules(tuple(allowed_callers), tuple(allowed_networks))
        self._tell_caller_refused = on_caller_refused
        self._caller_refused = RefusalReport(self._report_refusal)
        self._tell_object_refused = on_object_refused
        self._back_pressure: BackPressure = back_pressure or (lambda: None)
        self._largest_object = largest_object
        self._silence_seconds = silence_seconds
        self._extensions = tuple(extensions)
        self._ae = self._application_entity(ae_title)
        self.port = port
        """The port listened on without TLS; the real one once started with port 0."""
        self.tls_port = tls_port if tls is not None else None
        """The port listened on by TLS; the real one once started with port 0."""

    def start(self) -> None:
        """Sweep what a killed process left behind, and listen.

        Raises
        ------
        ServiceError
            If an address cannot be listened on.
        TLSConfigError
            If the certificate, its key or the trusted ones cannot be used.
        """
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.sweep(older_than_seconds=0.0)
        servers: list[GuardedServer] = []
        try:
            if self._plain:
                servers.append(self._listen(self.port))
                self.port = servers[-1].server_address[1]
            if self._tls is not None and self.tls_port is not None:
                servers.append(self._listen(self.tls_port, self._tls))
                self.tls_port = servers[-1].server_address[1]
        except ServiceError:
            for server in servers:
                server.server_close()
            raise
        for server in servers:
            server.start()

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Take no new association, let the running ones end for a while, then abort them."""
        deadline = time.monotonic() + grace_seconds
        for server in list(self._ae._servers):
            server.shutdown()
        while self._associations() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._associations():
            association.abort()
        self._caller_refused.flush()

    def sweep(self, older_than_seconds: float = 10 * NETWORK_TIMEOUT) -> int:
        """Delete partial objects that nothing was added to for that long; return how many there were."""
        oldest = time.time() - older_than_seconds
        swept = 0
        for file in self._incoming.glob("tmp*.dcm"):
            try:
                if file.stat().st_mtime <= oldest:
                    file.unlink()
                    swept += 1
            except FileNotFoundError:  # its association ended meanwhile
                continue
        if swept:
            log.info("partial objects swept", count=swept)
        return swept

    def _application_entity(self, ae_title: str) -> ApplicationEntity:
        ae = ApplicationEntity(ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(self._rules.ae_titles)
        ae.maximum_pdu_size = MAX_PDU
        ae.maximum_associations = MOST_ASSOCIATIONS
        ae.network_timeout = ae.acse_timeout = self._silence_seconds
        ae.add_supported_context(VERIFICATION)
        for sop_class in STORED_SOP_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        for extension in self._extensions:
            ae.add_supported_context(extension.sop_class, scu_role=True, scp_role=True)
        return ae

    def _listen(self, port: int, tls: TLSConfig | None = None) -> GuardedServer:
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_CONN_CLOSE, self._on_close),
        ]
        for extension in self._extensions:
            handlers += extension.handlers()
        try:
            return GuardedServer(
                self._ae,
                (self._host, port),
                SharedContexts(self._ae.supported_contexts),
                handlers,
                incoming=self._incoming,
                tls=tls.listening() if tls is not None else None,
                rules=self._rules,
                on_refused=self._caller_refused,
                back_pressure=self._back_pressure,
                largest_object=self._largest_object,
                silence_seconds=self._silence_seconds,
            )
        except OSError as error:
            raise ServiceError(
                f"cannot listen on {self._host} port {port}: {error.strerror or error}; choose a free port and an"
                " address of this machine"
            ) from None

    def _associations(self) -> list[Association]:
        return [a for a in self._ae.connections if a.is_alive()]

    def _on_echo(self, event: evt.Event) -> int:
        log.info("echo", caller=event.assoc.requestor.ae_title)
        return SUCCESS

    def _on_store(self, event: evt.Event) -> int | Dataset:
        try:
            self._receive(identify_stored(event, self._back_pressure))
        except ObjectRefusedError as error:
            return self._refuse(event, error)
        except OSError as error:  # a full disk is told to the peer, who tries again later
            return self._refuse(event, out_of_resources(error))
        return SUCCESS

    def _refuse(self, event: evt.Event, error: ObjectRefusedError) -> Dataset:
        requestor, request = event.assoc.requestor, event.request
        assert isinstance(request, C_STORE)
        refusal = ObjectRefusal(
            requestor.ae_title,
            requestor.address,
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            error.status,
            str(error),
        )
        log.warning("object refused", caller=refusal.peer, status=f"0x{error.status:04X}", reason=refusal.reason)
        if self._tell_object_refused is not None:
            self._tell_object_refused(refusal)
        answer = Dataset()
        answer.Status, answer.ErrorComment = error.status, error.comment
        return answer

    def _on_rejected(self, event: evt.Event) -> None:
        requestor, answer = event.assoc.requestor, event.assoc.acceptor.primitive
        reason = answer.reason_str.lower().replace("ae title", "AE title") if answer is not None else "no reason given"
        if "called" in reason and requestor.primitive is not None:
            reason += f" ({requestor.primitive.called_ae_title})"
        self._caller_refused(CallerRefusal(requestor.ae_title, requestor.address, reason))

    def _report_refusal(self, refusal: CallerRefusal) -> None:
        log.warning(
            "association rejected",
            caller=refusal.peer,
            address=refusal.address,
            reason=refusal.reason,
            times=refusal.times,
        )
        if self._tell_caller_refused is not None:
            self._tell_caller_refused(refusal)

    def _on_close(self, event: evt.Event) -> None:
        give_up(event.assoc)
        self.sweep()  # what was there whole, but was lost between arriving and being handed over


def identify_stored(event: evt.Event, back_pressure: BackPressure) -> ReceivedObject:
    """Tell what just arrived by C-STORE, and check it against what its request announced.

    Raises
    ------
    ObjectRefusedError
        If there is no data set, it was refused while it arrived, or it contradicts its request; or as `identify`.
    """
    request = event.request
    assert isinstance(request, C_STORE)
    if request._dataset_file is None:
        raise ObjectRefusedError("a C-STORE request without a data set was refused", CANNOT_UNDERSTAND)
    if not isinstance(request._dataset_file, IncomingFile):  # came in one PDU with its command
        refuse_when_full(back_pressure)
    elif request._dataset_file.refusal is not None:
        raise request._dataset_file.refusal
    requestor = event.assoc.requestor
    received = identify(Path(request._dataset_file.name), requestor.ae_title, requestor.address)
    if received.sop_instance_uid != request.AffectedSOPInstanceUID:
        raise ObjectRefusedError(
            f"object {received.sop_instance_uid} was refused because its C-STORE request announced another SOP Instance"
            " UID",
            DOES_NOT_MATCH_SOP_CLASS,
        )
    if received.sop_class_uid != event.context.abstract_syntax:
        raise ObjectRefusedError(
            f"object {received.sop_instance_uid} was refused because its SOP class is not the one agreed for its"
            " context",
            DOES_NOT_MATCH_SOP_CLASS,
        )
    originator = request.MoveOriginatorApplicationEntityTitle
    return replace(received, move_originator=originator.strip()) if originator else received
