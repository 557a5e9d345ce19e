"""`DeliveryWork`: one try to send a report to one destination, and what follows from it.

A try is one piece of durable work. Between tries nothing is held but a time in the records.

How each destination of the settings is sent to, and asked whether it will keep what it was sent.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
from pydicom import dcmread
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.network import (
    Caller,
    CommitmentClient,
    CommitmentReports,
    ConnectionLostError,
    DimsePeer,
    HL7Client,
    HL7Peer,
    Instance,
    NetworkError,
    Peer,
    PeerUnreachableError,
    Sender,
    Sending,
    ServiceError,
    WebPeer,
)
from mammoscope.node.db.engine import where_and_why
from mammoscope.node.db.repository import DeliveryOrder, DeliveryRecord, DeliveryStatus, Records, SendingRecord
from mammoscope.node.events import Event, Origin, ReportParked, ReportSent, SendingFailed
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.retrieve.archives import tls_of
from mammoscope.node.storage.outbox import Outbox
from mammoscope.results import Addressing, observation_message
from mammoscope.settings import DestinationSettings, NodeSettings, SourceSettings, Transport

KIND = "send report"
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 600.0
MOST_DOUBLINGS = 30

GONE = "the result objects were deleted after their time; have the study read again"
NO_DESTINATION = "no destination of this name in the settings"

Objects = tuple[SendingRecord, ...]

log = structlog.get_logger(__name__)


class Send(Protocol):
    """Sends files to a destination, in order; one outcome each.

    Raises
    ------
    NetworkError
        If nothing could be sent at all.
    """

    def __call__(
        self, files: Sequence[Path], on_sent: Callable[[str], None], may_send: Callable[[], bool]
    ) -> tuple[Sending, ...]:
        """Send.

        Parameters
        ----------
        on_sent
            Called with the SOP Instance UID of each object as soon as it is acknowledged.
        may_send
            Asked before each piece of an object; once it says no, nothing more goes out.
        """


class Confirm(Protocol):
    """Asks a destination whether it will keep objects that it was sent."""

    def __call__(self, instances: Sequence[Instance]) -> Mapping[str, str]:
        """Give those that it will not keep, by SOP Instance UID, each with why.

        Raises
        ------
        NetworkError
            If it does not say.
        """


def wait_after(tries: int) -> float:
    """Seconds to wait after so many tries: 5, 10, 20, ... up to 600."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, MOST_DOUBLINGS), LONGEST_WAIT_SECONDS)


class DeliveryWork:
    """Sends reports.

    An object that a destination refuses for what it is is parked with the destination's own words and not tried again;
    the others are. What a destination has already, of an earlier report of the study, is not sent to it twice unless a
    person has it resent.

    Parameters
    ----------
    sends, confirms
        By name of the destination. Where there is a confirmation to ask for, a report is sent only when it was given.
    retry_seconds
        By name of the destination: how long in all is waited between tries before what is left is parked.
    claim
        Asked at the beginning of each try: gives what says whether the work is still ours
        (`mammoscope.node.jobs.heartbeat.Heartbeat.claim`).
    """

    def __init__(
        self,
        work: DurableWork,
        records: Records,
        outbox: Outbox,
        sends: Mapping[str, Send],
        confirms: Mapping[str, Confirm],
        retry_seconds: Mapping[str, float],
        on_event: Callable[[Event], None],
        claim: Callable[[], Callable[[], bool]] = lambda: lambda: True,
    ) -> None:
        self._claim = claim
        self._work = work
        self._records = records
        self._outbox = outbox
        self._sends = sends
        self._confirms = confirms
        self._retry_seconds = retry_seconds
        self._on_event = on_event
        self._unnoted: dict[tuple[str, int, str, int], set[str]] = defaultdict(set)
        work.define(KIND, self.deliver)

    def deliver(self, study: str, number: int, destination: str, round_: int, tries: int, origin: str) -> None:
        """Try once: a piece of durable work. A try that is over already does nothing."""
        order = DeliveryOrder(
            study=study,
            number=number,
            destination=destination,
            round=round_,
            tries=tries,
            next_try_at=None,
            origin=Origin(origin),
        )
        self._work.step("send", lambda: self.try_once(order))

    def try_once(self, order: DeliveryOrder) -> None:
        """Try once, and note how it ended."""
        delivery = self._records.delivery(order.study, order.number, order.destination)
        if (delivery.status, delivery.round, delivery.tries) != (DeliveryStatus.PENDING, order.round, order.tries):
            return
        is_ours = self._claim()
        objects, trouble = self._send(order, delivery, is_ours)
        if not is_ours():  # another worker does it; what was acknowledged to us is noted already
            log.warning("sending left to another worker", study=order.study, destination=order.destination)
            return
        if not trouble:
            objects, trouble = self._confirm(order, objects)
        tries = delivery.tries + 1
        if trouble and delivery.waited_seconds < self._retry_seconds.get(order.destination, 0.0):
            self._put_off(order, delivery.model_copy(update={"objects": objects, "tries": tries}), trouble)
        else:
            self._end(order, delivery.model_copy(update={"objects": objects, "tries": tries}), trouble)
        self._unnoted.pop(_key(order), None)  # all is noted

    def _send(
        self, order: DeliveryOrder, delivery: DeliveryRecord, is_ours: Callable[[], bool]
    ) -> tuple[Objects, tuple[str, ...]]:
        """Send what is pending; return how each object stands now, and what kept back those that are pending still."""
        send = self._sends.get(order.destination)
        if send is None:
            return _all_parked(delivery, NO_DESTINATION), ()
        has = self._records.sent_to(order.study, order.destination) if order.round == 1 else frozenset()
        has |= self._unnoted.get(_key(order), frozenset())
        stored = self._outbox.stored_report(order.study, order.number)
        wanted = [o.sop_instance_uid for o in delivery.objects if o.status is DeliveryStatus.PENDING]
        files = [stored.file_of(uid) for uid in wanted if uid not in has]
        there = [file for file in files if file is not None]
        if len(there) < len(files):
            return _all_parked(delivery, GONE), ()
        outcomes = {uid: SendingRecord(sop_instance_uid=uid, status=DeliveryStatus.SENT) for uid in has}
        trouble: list[str] = []
        try:
            sendings = send(there, partial(self._note, order), is_ours) if there else ()
        except NetworkError as error:
            trouble = [str(error)]
        except (OSError, MemoryError) as error:  # nothing that the destination said
            log.warning("sending failed", study=order.study, error=where_and_why(error))
            trouble = [f"the results cannot be read here now ({type(error).__name__})"]
        except Exception as error:
            log.warning("sending failed", study=order.study, error=where_and_why(error))
            return _all_parked(delivery, f"the results cannot be sent ({type(error).__name__})"), ()
        else:
            self._unnoted[_key(order)] |= {s.sop_instance_uid for s in sendings if s.error is None}
            outcomes |= {sending.sop_instance_uid: _outcome(sending) for sending in sendings}
            trouble = [str(s.error) for s in sendings if s.error is not None and s.error.worth_retrying]
        objects = tuple(
            outcomes.get(o.sop_instance_uid, o) if o.status is DeliveryStatus.PENDING else o for o in delivery.objects
        )
        return objects, tuple(dict.fromkeys(trouble))

    def _note(self, order: DeliveryOrder, sop_instance: str) -> None:
        """Note what was acknowledged, at least in memory: a database that is full for a moment breaks off no sending.

        Whatever is not noted yet is so with the end of this try, or goes along to the next as what the destination has.
        """
        self._unnoted[_key(order)].add(sop_instance)
        try:
            self._records.note_sent(order.study, order.number, order.destination, sop_instance)
        except SQLAlchemyError as error:
            log.warning("acknowledgement not noted", study=order.study, error=where_and_why(error))

    def _confirm(self, order: DeliveryOrder, objects: Objects) -> tuple[Objects, tuple[str, ...]]:
        """Ask whether the destination will keep what it took; what it will not is pending again."""
        confirm = self._confirms.get(order.destination)
        taken = [o.sop_instance_uid for o in objects if o.status is DeliveryStatus.SENT]
        if confirm is None or not taken:
            return objects, ()
        classes = self._records.result_classes(order.study, order.number)
        try:
            refused = confirm([Instance(classes[uid], uid) for uid in taken])
        except NetworkError as error:
            return objects, (str(error),)
        again = tuple(
            o.model_copy(update={"status": DeliveryStatus.PENDING, "error": refused[o.sop_instance_uid]})
            if o.sop_instance_uid in refused
            else o
            for o in objects
        )
        return again, tuple(refused.values())

    def _put_off(self, order: DeliveryOrder, delivery: DeliveryRecord, trouble: tuple[str, ...]) -> None:
        wait = wait_after(delivery.tries)
        noted = delivery.model_copy(
            update={
                "errors": trouble,
                "waited_seconds": delivery.waited_seconds + wait,
                "next_try_at": datetime.now(UTC) + timedelta(seconds=wait),
            }
        )
        if self._records.set_delivery(order.study, order.number, noted):
            self._on_event(
                SendingFailed(
                    study=order.study,
                    report=order.number,
                    destination=order.destination,
                    tries=delivery.tries,
                    reason=trouble[0],
                    origin=order.origin,
                )
            )

    def _end(self, order: DeliveryOrder, delivery: DeliveryRecord, trouble: tuple[str, ...]) -> None:
        objects = tuple(
            o.model_copy(update={"status": DeliveryStatus.PARKED, "error": trouble[0]})
            if o.status is DeliveryStatus.PENDING
            else o
            for o in delivery.objects
        )
        parked = (o.error for o in objects if o.status is DeliveryStatus.PARKED and o.error)
        reasons = tuple(dict.fromkeys((*parked, *trouble)))
        status = DeliveryStatus.PARKED if reasons else DeliveryStatus.SENT
        now = datetime.now(UTC)
        ended = {"status": status, "objects": objects, "errors": reasons, "next_try_at": None, "ended_at": now}
        noted = delivery.model_copy(update=ended)
        if not self._records.set_delivery(order.study, order.number, noted):
            return
        if status is DeliveryStatus.PARKED:
            self._on_event(
                ReportParked(
                    study=order.study,
                    report=order.number,
                    destination=order.destination,
                    tries=delivery.tries,
                    reasons=reasons,
                    origin=order.origin,
                )
            )
            return
        if delivery.tries > 1:  # it was down: the others need not wait out what they were put off for
            self._records.hasten(order.destination)
        made_at = self._records.made_at(order.study, order.number)
        self._on_event(
            ReportSent(
                study=order.study,
                report=order.number,
                destination=order.destination,
                sop_instances=tuple(o.sop_instance_uid for o in objects),
                tries=delivery.tries,
                seconds=max(0.0, (now - made_at).total_seconds()),
                origin=order.origin,
            )
        )


def _outcome(sending: Sending) -> SendingRecord:
    if sending.error is None:
        return SendingRecord(sop_instance_uid=sending.sop_instance_uid, status=DeliveryStatus.SENT)
    status = DeliveryStatus.PENDING if sending.error.worth_retrying else DeliveryStatus.PARKED
    return SendingRecord(sop_instance_uid=sending.sop_instance_uid, status=status, error=str(sending.error))


def _all_parked(delivery: DeliveryRecord, reason: str) -> Objects:
    parked = {"status": DeliveryStatus.PARKED, "error": reason}
    return tuple(o.model_copy(update=parked) if o.status is DeliveryStatus.PENDING else o for o in delivery.objects)


def _key(order: DeliveryOrder) -> tuple[str, int, str, int]:
    """A round of a delivery."""
    return order.study, order.number, order.destination, order.round


def peer_of(settings: DestinationSettings | SourceSettings) -> Peer:
    """A destination or source as the network takes it.

    Raises
    ------
    ServiceError
        If the settings do not say how to speak to it.
    """
    if settings.transport is Transport.DICOMWEB and settings.url is not None:
        token = settings.token.get_secret_value() if settings.token is not None else None
        return WebPeer(settings.name, settings.url, token)
    if settings.ae_title is None or settings.host is None or settings.port is None:
        raise ServiceError(f"the destination '{settings.name}' has no AE title, host and port to send to")
    return DimsePeer(settings.name, settings.ae_title, settings.host, settings.port, tls=settings.tls)


def sender_for(destination: DestinationSettings, settings: NodeSettings) -> Send:
    """What sends to a destination.

    Raises
    ------
    ServiceError
        If the settings do not say how.
    TLSConfigError
        If our certificate cannot be used.
    """
    if destination.transport is Transport.HL7:
        return _summary_sender(destination, settings)
    peer = peer_of(destination)
    sender = Sender(settings.node.ae_title, destination.timeout_seconds, tls=tls_of(settings))

    def send(
        files: Sequence[Path], on_sent: Callable[[str], None], may_send: Callable[[], bool]
    ) -> tuple[Sending, ...]:
        return sender.send(files, peer, on_sent, may_send)

    return send


def hl7_peer_of(settings: DestinationSettings) -> HL7Peer:
    """A destination that takes HL7 as the network takes it.

    Raises
    ------
    ServiceError
        If the settings do not say how to speak to it.
    """
    if settings.host is None or settings.port is None:
        raise ServiceError(f"the destination '{settings.name}' has no host and port to send to")
    application, facility = settings.application or "", settings.facility or ""
    return HL7Peer(settings.name, settings.host, settings.port, application, facility, tls=settings.tls)


def _summary_sender(destination: DestinationSettings, settings: NodeSettings) -> Send:
    """What sends an HL7 message for each AI report."""
    peer = hl7_peer_of(destination)
    client = HL7Client(destination.timeout_seconds, tls_of(settings))
    addressing = Addressing(settings.node.ae_title, peer.application, peer.facility)

    def send_one(file: Path, may_send: Callable[[], bool]) -> Sending:
        report = dcmread(file)
        uid = str(report.SOPInstanceUID)
        if not may_send():
            return Sending(
                uid, ConnectionLostError(f"the work was left to another worker before object {uid} was sent")
            )
        try:
            client.send(observation_message(report, addressing), peer)
        except PeerUnreachableError:
            raise
        except NetworkError as error:
            return Sending(uid, error)
        return Sending(uid)

    def send(
        files: Sequence[Path], on_sent: Callable[[str], None], may_send: Callable[[], bool]
    ) -> tuple[Sending, ...]:
        sendings = []
        for file in files:
            sendings.append(send_one(file, may_send))
            if sendings[-1].error is None:
                on_sent(sendings[-1].sop_instance_uid)
        return tuple(sendings)

    return send


def confirmer_for(
    destination: DestinationSettings, settings: NodeSettings, reports: CommitmentReports
) -> Confirm | None:
    """What asks a destination for storage commitment; ``None`` if it is not to be asked.

    Parameters
    ----------
    reports
        Those that arrive on our own port.
    """
    if not destination.commitment:
        return None
    peer = peer_of(destination)
    if not isinstance(peer, DimsePeer):
        return None
    client = CommitmentClient(Caller(settings.node.ae_title, tls=tls_of(settings)), reports)

    def confirm(instances: Sequence[Instance]) -> Mapping[str, str]:
        report = client.ask(peer, instances)
        uids = [instance.sop_instance_uid for instance in instances]
        reasons = {uid: report.failed.get(uid, 0) for uid in uids if uid not in report.committed}
        return {
            uid: f"{peer} did not commit to keep object {uid} (failure reason 0x{reason:04X})"
            for uid, reason in reasons.items()
        }

    return confirm


def dimse_peers(settings: NodeSettings) -> Mapping[str, DimsePeer]:
    """Those that are spoken to by DICOM, by AE title."""
    known: list[SourceSettings | DestinationSettings] = [*settings.sources, *settings.destinations]
    peers = [peer_of(one) for one in known if one.transport is Transport.DIMSE]
    return {peer.ae_title: peer for peer in peers if isinstance(peer, DimsePeer)}
