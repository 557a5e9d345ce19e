"""`StorageClient`: sends objects by C-STORE, and says in words what went wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.status import code_to_category

from mammoscope.network.errors import (
    AssociationRejectedError,
    ConnectionLostError,
    ContextNotAcceptedError,
    NetworkError,
    PeerUnreachableError,
    StatusError,
    UnsendableObjectError,
)

VERIFICATION = UID("1.2.840.10008.1.1")
MAX_CONTEXTS = 128
_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

_STATUS_WORDS = {
    0xA7: "it is out of resources",
    0xA9: "the data set does not match its SOP class",
    0x01: "it could not process the request",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A peer that takes objects: its name in our settings, its AE title and its address."""

    name: str
    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title} at {self.host} port {self.port})"


@dataclass(frozen=True, slots=True)
class Sending:
    """How the sending of one object ended: ``error`` is ``None`` when the peer acknowledged it."""

    sop_instance_uid: str
    error: NetworkError | None = None


class StorageClient:
    """A storage SCU (DICOM PS3.4 Annex B).

    Parameters
    ----------
    ae_title
        What we call ourselves.
    timeout_seconds
        How long to wait for a connection, for the answer to the association request and for each response.
    """

    def __init__(self, ae_title: str, timeout_seconds: float = 30.0) -> None:
        self._ae = AE(ae_title)
        self._ae.connection_timeout = timeout_seconds
        self._ae.acse_timeout = timeout_seconds
        self._ae.dimse_timeout = timeout_seconds

    def echo(self, destination: Destination) -> None:
        """Ask the peer whether it is there (C-ECHO).

        Raises
        ------
        NetworkError
            One of `PeerUnreachableError`, `AssociationRejectedError`, `ContextNotAcceptedError`, `StatusError`,
            `ConnectionLostError`.
        """
        with self._associated(destination, [build_context(VERIFICATION)]) as association:
            status = association.send_c_echo().get("Status")
        _check(status, destination, "the echo")

    def send(self, objects: Sequence[Dataset | Path], destination: Destination) -> tuple[Sending, ...]:
        """Send objects over one association, in order.

        Each is sent as it is encoded; only implicit and explicit little endian are turned into one another.

        Returns
        -------
        tuple of Sending
            One an object. An object that the peer does not take is no reason to keep the others back.

        Raises
        ------
        PeerUnreachableError, AssociationRejectedError, ConnectionLostError
            If there is no association, and so nothing was sent.
        """
        datasets = [o if isinstance(o, Dataset) else dcmread(o) for o in objects]
        if not datasets:
            return ()
        sendings: list[Sending] = []
        try:
            with self._associated(destination, _contexts(datasets)) as association:
                sendings.extend(self._send_one(association, dataset, destination) for dataset in datasets)
        except ContextNotAcceptedError:
            sendings = [Sending(str(d.SOPInstanceUID), _not_taken(d, destination)) for d in datasets]
        return tuple(sendings)

    def _send_one(self, association: Association, dataset: Dataset, destination: Destination) -> Sending:
        uid = str(dataset.SOPInstanceUID)
        try:
            if not _is_taken(association, dataset):
                raise _not_taken(dataset, destination)
            if not association.is_established:
                raise _lost(destination, f"object {uid}")
            _check(association.send_c_store(dataset).get("Status"), destination, f"object {uid}")
        except NetworkError as error:
            return Sending(uid, error)
        except RuntimeError:  # pynetdicom's word for an association that ended since we looked
            return Sending(uid, _lost(destination, f"object {uid}"))
        except (ValueError, AttributeError) as error:
            return Sending(uid, UnsendableObjectError(f"object {uid} cannot be encoded ({type(error).__name__})"))
        return Sending(uid)

    @contextmanager
    def _associated(self, destination: Destination, contexts: list[PresentationContext]) -> Iterator[Association]:
        connected: list[bool] = []
        try:
            association = self._ae.associate(
                destination.host,
                destination.port,
                contexts=contexts,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, lambda _: connected.append(True))],
            )
        except OSError as error:
            raise PeerUnreachableError(
                f"{destination} cannot be reached: {error.strerror or error}; check its address"
            ) from None
        if not association.is_established:
            raise self._why_not(association, destination, connected=bool(connected))
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _why_not(self, association: Association, destination: Destination, *, connected: bool) -> NetworkError:
        if not connected:
            return PeerUnreachableError(
                f"{destination} cannot be reached: no connection was made; check that it runs, its address and the"
                " firewall"
            )
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = answer.reason_str.lower().replace("ae title", "AE title") if answer else "no reason given"
            return AssociationRejectedError(
                f"{destination} rejected the association: {reason}; check both AE titles and that it knows"
                f" {self._ae.ae_title}"
            )
        if association.rejected_contexts:
            return ContextNotAcceptedError(f"{destination} accepts none of the SOP classes offered")
        return ConnectionLostError(
            f"{destination} let us connect but did not answer the association request; check that a DICOM service"
            " listens on that port"
        )


def _contexts(datasets: Sequence[Dataset]) -> list[PresentationContext]:
    """One context for each pair of SOP class and encoding, so that the peer can refuse one without the other."""
    wanted: dict[tuple[UID, tuple[UID, ...]], None] = {}
    for dataset in datasets:
        syntax = dataset.file_meta.TransferSyntaxUID
        wanted[dataset.SOPClassUID, _NATIVE if syntax in _NATIVE else (syntax,)] = None
    return [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in list(wanted)[:MAX_CONTEXTS]]


def _is_taken(association: Association, dataset: Dataset) -> bool:
    syntax = dataset.file_meta.TransferSyntaxUID
    accepted = {c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == dataset.SOPClassUID}
    return syntax in accepted or (syntax in _NATIVE and not accepted.isdisjoint(_NATIVE))


def _not_taken(dataset: Dataset, destination: Destination) -> ContextNotAcceptedError:
    return ContextNotAcceptedError(
        f"{destination} does not accept {dataset.SOPClassUID.name} in {dataset.file_meta.TransferSyntaxUID.name};"
        " allow this SOP class there"
    )


def _lost(destination: Destination, what: str) -> ConnectionLostError:
    return ConnectionLostError(f"{destination} ended the association or fell silent before it acknowledged {what}")


def _check(status: int | None, destination: Destination, what: str) -> None:
    if status is None:
        raise _lost(destination, what)
    if code_to_category(status) not in ("Success", "Warning"):
        words = _STATUS_WORDS.get(status >> 8) or ("it cannot understand it" if status >> 12 == 0xC else "no reason")
        raise StatusError(f"{destination} refused {what} with status 0x{status:04X}: {words}", status)
