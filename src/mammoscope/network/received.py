"""`ReceivedObject`: one object that arrived, whichever way it came."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.uid import UID

from mammoscope.imaging import MammogramError
from mammoscope.imaging.attributes import is_uid
from mammoscope.imaging.header import find_attributes
from mammoscope.network.errors import ObjectRefusedError

SUCCESS = 0x0000
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000


_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality")


@dataclass(frozen=True, slots=True)
class ReceivedObject:
    """One object that arrived whole, its UIDs checked to be digits and dots.

    Parameters
    ----------
    path
        A DICOM file that vanishes when the receiver returns: move or link it to keep it. Not yet synced to disk.
    modality
        As in the object; empty when it does not say.
    calling_ae_title
        Who sent it; the name of the source where we fetched it, of the token's holder where it came by STOW-RS.
    address
        Of the peer.
    move_originator
        The AE title that asked the peer to send it, by C-MOVE (DICOM PS3.7 9.1.1.1); empty if none did. What we fetch
        ourselves bears our own.
    """

    path: Path
    sop_class_uid: UID
    sop_instance_uid: str
    study_instance_uid: str
    modality: str
    calling_ae_title: str
    address: str = ""
    move_originator: str = ""


class Receipt(StrEnum):
    """What a receiver did with an object; all three are answered with success."""

    STORED = "stored"
    KNOWN = "known"
    IGNORED = "ignored"


Receiver = Callable[[ReceivedObject], Receipt]
"""Keeps an object, safely when it returns. `ObjectRefusedError` is answered with its status, `OSError` with 0xA700."""


@dataclass(frozen=True, slots=True)
class ObjectRefusal:
    """An object that was not taken.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        As announced by the peer, without any check; empty where it announced nothing.
    status
        What the peer was answered (DICOM PS3.4 Table B.2-1).
    """

    peer: str
    address: str
    sop_class_uid: str
    sop_instance_uid: str
    status: int
    reason: str


def identify(path: Path, peer: str, address: str = "") -> ReceivedObject:
    """Tell what an object that just arrived is, in bounded memory whatever it holds.

    Raises
    ------
    ObjectRefusedError
        If it cannot be parsed, lacks an identifier, or an identifier is not made of digits and dots (file and folder
        names are made from them).
    """
    try:
        found = find_attributes(path, _IDENTITY, prefixed=True)
    except MammogramError:
        raise ObjectRefusedError("a data set that cannot be parsed was refused", CANNOT_UNDERSTAND) from None
    sop_class, sop_instance, study, modality = (found.get(keyword) for keyword in _IDENTITY)
    for name, uid in (("SOP Class UID", sop_class), ("SOP Instance UID", sop_instance), ("Study Instance UID", study)):
        if not is_uid(uid):
            raise ObjectRefusedError(f"an object without a valid {name} was refused", CANNOT_UNDERSTAND)
    return ReceivedObject(path, UID(sop_class), sop_instance, study, modality, peer, address)


def out_of_resources(error: OSError) -> ObjectRefusedError:
    """Turn a disk's refusal into one that the peer is told."""
    reason = f"an object could not be written: {error.strerror}"
    return ObjectRefusedError(reason, OUT_OF_RESOURCES, comment="the object could not be written")


def take(
    path: Path, receive: Receiver, peer: str, address: str, refusal: ObjectRefusedError | None = None
) -> tuple[str, ObjectRefusedError | None]:
    """Hand over one object that an archive gave us.

    Parameters
    ----------
    refusal
        Why the object was refused on its way in already, if it was.

    Returns
    -------
    tuple
        Its SOP Instance UID as far as it is known, and why it was not taken; ``None`` if it was.
    """
    uid = ""
    try:
        if refusal is not None:
            raise refusal
        received = identify(path, peer, address)
        uid = received.sop_instance_uid
        receive(received)
    except ObjectRefusedError as error:
        return uid, error
    except OSError as error:
        return uid, out_of_resources(error)
    return uid, None
