"""`StorageClient`: sends objects by C-STORE, and says in words what went wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from mammoscope.network.association import Caller, MaySend, pause
from mammoscope.network.errors import (
    ContextNotAcceptedError,
    NetworkError,
    UnsendableObjectError,
)
from mammoscope.network.peers import Destination, check_status, lost
from mammoscope.network.sop_classes import VERIFICATION
from mammoscope.network.tls import TLSConfig

MAX_CONTEXTS = 128
DUPLICATE_SOP_INSTANCE = 0x0111
"""DICOM PS3.7 C.4.2. The UIDs of what we send follow from its content: a duplicate is the same object."""
_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


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
    tls
        Our certificate, for destinations that are called by TLS.
    move_originator
        Who asked for what is sent (DICOM PS3.7 9.1.1.1), if anybody did.
    """

    def __init__(
        self,
        ae_title: str,
        timeout_seconds: float = 30.0,
        tls: TLSConfig | None = None,
        *,
        move_originator: str | None = None,
    ) -> None:
        self._caller = Caller(ae_title, timeout_seconds, tls)
        self._move_originator = move_originator

    def echo(self, destination: Destination) -> None:
        """Ask the peer whether it is there (C-ECHO).

        Raises
        ------
        NetworkError
            See `Caller.associated`; or `StatusError`.
        """
        with self._caller.associated(destination, [build_context(VERIFICATION)]) as association:
            pause(association)
            answer = association.send_c_echo()
        check_status(answer, destination, "the echo")

    def send(
        self,
        objects: Sequence[Dataset | Path],
        destination: Destination,
        on_sent: Callable[[str], None] | None = None,
        may_send: MaySend | None = None,
    ) -> tuple[Sending, ...]:
        """Send objects over one association, in order.

        Each is sent as it is encoded; only implicit and explicit little endian are turned into one another. A peer that
        has an object of that SOP Instance UID already (0x0111) counts as one that took it: its answer to an earlier try
        was lost.

        Parameters
        ----------
        on_sent
            Called with the SOP Instance UID of each object as soon as it is acknowledged, before the next is sent.
        may_send
            See `Caller.associated`.

        Returns
        -------
        tuple of Sending
            One an object. An object that the peer does not take is no reason to keep the others back.

        Raises
        ------
        NetworkError
            If there is no association, and so nothing was sent; see `Caller.associated`.
        """
        datasets = [o if isinstance(o, Dataset) else dcmread(o) for o in objects]
        if not datasets:
            return ()
        sendings: list[Sending] = []
        try:
            with self._caller.associated(destination, _contexts(datasets), may_send=may_send) as association:
                for dataset in datasets:
                    sendings.append(self._send_one(association, dataset, destination))
                    if on_sent is not None and sendings[-1].error is None:
                        on_sent(sendings[-1].sop_instance_uid)
        except ContextNotAcceptedError:
            sendings = [Sending(str(d.SOPInstanceUID), _not_taken(d, destination)) for d in datasets]
        return tuple(sendings)

    def _send_one(self, association: Association, dataset: Dataset, destination: Destination) -> Sending:
        uid = str(dataset.SOPInstanceUID)
        try:
            if not _is_taken(association, dataset):
                raise _not_taken(dataset, destination)
            if not association.is_established:
                raise lost(destination, f"object {uid}")
            pause(association)
            answer = association.send_c_store(dataset, originator_aet=self._move_originator)
            if answer.get("Status") != DUPLICATE_SOP_INSTANCE:
                check_status(answer, destination, f"object {uid}")
        except NetworkError as error:
            return Sending(uid, error)
        except RuntimeError:  # pynetdicom's word for an association that ended since we looked
            return Sending(uid, lost(destination, f"object {uid}"))
        except (ValueError, AttributeError) as error:
            return Sending(uid, UnsendableObjectError(f"object {uid} cannot be encoded ({type(error).__name__})"))
        return Sending(uid)


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
