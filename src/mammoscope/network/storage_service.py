"""`StorageService`: receives objects by C-STORE and answers C-ECHO.

A data set is written to disk while it arrives, so that memory stays flat whatever its size. Whoever is given the
complete file keeps it, and only then is the peer told "success".
"""

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

import structlog
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    BasicStructuredDisplayStorage,
    BasicTextSRStorage,
    BlendingSoftcopyPresentationStateStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    RawDataStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from mammoscope.network.errors import ObjectRefusedError, ServiceError

UNCOMPRESSED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
COMPRESSED = (
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGLSNearLossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)
READ_SOP_CLASSES = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
"""SOP classes that may hold a mammogram; all but the first two only where their attributes say so."""
IGNORED_SOP_CLASSES = (
    BasicStructuredDisplayStorage,
    BasicTextSRStorage,
    BlendingSoftcopyPresentationStateStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    RawDataStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)
"""SOP classes that a PACS routes along with a study. Answered with success: an error would make it try for ever."""

MAX_PDU = 131072
"""Bytes. Twice the objects per second of the usual 16 KiB on a fast link."""
NETWORK_TIMEOUT = 60.0
"""Seconds of silence after which an association is ended."""

CANNOT_UNDERSTAND = 0xC000
DOES_NOT_MATCH_SOP_CLASS = 0xA900
OUT_OF_RESOURCES = 0xA700
SUCCESS = 0x0000

VERIFICATION = UID("1.2.840.10008.1.1")
_UID_TEXT = re.compile(r"[0-9]+(\.[0-9]+)*")
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceivedObject:
    """One object that arrived whole, its UIDs checked to be digits and dots.

    Parameters
    ----------
    path
        A DICOM file that vanishes when the receiver returns: move or link it to keep it. Not yet synced to disk.
    modality
        As in the object; empty when it does not say.
    """

    path: Path
    sop_class_uid: UID
    sop_instance_uid: str
    study_instance_uid: str
    modality: str
    calling_ae_title: str


class Receipt(StrEnum):
    """What a receiver did with an object; all three are answered with success."""

    STORED = "stored"
    KNOWN = "known"
    IGNORED = "ignored"


class StorageService:
    """A storage SCP (DICOM PS3.4 Annex B) that hands every whole object to ``receive``.

    Parameters
    ----------
    ae_title
        Ours; an association that calls another is rejected.
    incoming
        Folder for objects on their way in, on the file system on which ``receive`` keeps them. While the service
        runs it is also Python's folder for temporary files, because pynetdicom writes its own there.
    receive
        Called in the association's thread, also for several objects at once. The peer is told "success" when it
        returns; `ObjectRefusedError` is answered with its status and `OSError` with 0xA700.
    host, port
        Address to listen on; port 0 takes a free one, see `port`.
    allowed_callers
        Calling AE titles that may associate; empty for all.

    Notes
    -----
    pynetdicom's switch for writing data sets to disk as they arrive is one for the whole process.
    """

    def __init__(
        self,
        ae_title: str,
        incoming: Path,
        receive: Callable[[ReceivedObject], Receipt],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allowed_callers: Sequence[str] = (),
    ) -> None:
        self._incoming = incoming
        self._receive = receive
        self._address = (host, port)
        self._ae = _application_entity(ae_title, allowed_callers)
        self._previous_tempdir: str | None = None
        self.port = port
        """The port listened on; the real one once started with port 0."""

    def start(self) -> None:
        """Sweep what a killed process left behind, and listen.

        Raises
        ------
        ServiceError
            If the address cannot be listened on.
        """
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.sweep(older_than_seconds=0.0)
        _config.STORE_RECV_CHUNKED_DATASET = True
        self._previous_tempdir, tempfile.tempdir = tempfile.tempdir, str(self._incoming)
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_CONN_CLOSE, self._on_close),
        ]
        try:
            server = self._ae.start_server(self._address, block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        except OSError as error:
            tempfile.tempdir = self._previous_tempdir
            host, port = self._address
            raise ServiceError(
                f"cannot listen on {host} port {port}: {error.strerror or error}; choose a free port and an address"
                " of this machine"
            ) from None
        assert server is not None
        self.port = server.server_address[1]

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Take no new association, let the running ones end for a while, then abort them."""
        deadline = time.monotonic() + grace_seconds
        for server in list(self._ae._servers):
            server.shutdown()
        while self._associations() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._associations():
            association.abort()
        tempfile.tempdir = self._previous_tempdir

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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

    def _associations(self) -> list[Association]:
        return [a for a in self._ae.active_associations if a.is_alive()]

    def _on_echo(self, event: evt.Event) -> int:
        log.info("echo", caller=event.assoc.requestor.ae_title)
        return SUCCESS

    def _on_store(self, event: evt.Event) -> int:
        caller = event.assoc.requestor.ae_title
        try:
            self._receive(identify(event))
        except ObjectRefusedError as error:
            log.warning("object refused", caller=caller, status=f"0x{error.status:04X}", reason=str(error))
            return error.status
        except OSError as error:  # a full disk is told to the peer, who tries again later
            log.warning("object not stored", caller=caller, status="0xA700", reason=error.strerror)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _on_rejected(self, event: evt.Event) -> None:
        requestor = event.assoc.requestor
        log.warning(
            "association rejected",
            caller=requestor.ae_title,
            called=requestor.primitive.called_ae_title if requestor.primitive else None,
            address=requestor.address,
        )

    def _on_close(self, _: evt.Event) -> None:
        # An association that breaks in the middle of an object leaves its part behind; it goes at a later closing.
        self.sweep()


def identify(event: evt.Event) -> ReceivedObject:
    """Tell what just arrived, and check it against what its C-STORE request announced.

    Raises
    ------
    ObjectRefusedError
        If there is no data set, it cannot be parsed, lacks or contradicts an identifier, or an identifier is not
        made of digits and dots (file and folder names are made from them).
    """
    request = event.request
    assert isinstance(request, C_STORE)
    path: Path | None = event.dataset_path
    if path is None:
        raise ObjectRefusedError("a C-STORE request without a data set was refused", CANNOT_UNDERSTAND)
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
        sop_class, sop_instance, study, modality = (str(header.get(keyword) or "") for keyword in _IDENTITY)
    except OSError:
        raise
    except Exception as error:  # a damaged data set raises whatever the parser stumbles over
        raise ObjectRefusedError(
            f"a data set that cannot be parsed was refused ({type(error).__name__})", CANNOT_UNDERSTAND
        ) from None
    for keyword, uid in (("SOP Instance UID", sop_instance), ("Study Instance UID", study)):
        if not _UID_TEXT.fullmatch(uid) or len(uid) > 64:
            raise ObjectRefusedError(f"an object without a valid {keyword} was refused", CANNOT_UNDERSTAND)
    if sop_instance != request.AffectedSOPInstanceUID:
        raise ObjectRefusedError(
            f"object {sop_instance} was refused because its C-STORE request announced another SOP Instance UID",
            DOES_NOT_MATCH_SOP_CLASS,
        )
    if sop_class != event.context.abstract_syntax:
        raise ObjectRefusedError(
            f"object {sop_instance} was refused because its SOP class is not the one agreed for its context",
            DOES_NOT_MATCH_SOP_CLASS,
        )
    return ReceivedObject(path, UID(sop_class), sop_instance, study, modality, event.assoc.requestor.ae_title)


def _application_entity(ae_title: str, allowed_callers: Sequence[str]) -> AE:
    ae = AE(ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(allowed_callers)
    ae.maximum_pdu_size = MAX_PDU
    ae.maximum_associations = 20
    ae.network_timeout = NETWORK_TIMEOUT
    ae.add_supported_context(VERIFICATION)
    for sop_class in (*READ_SOP_CLASSES, *IGNORED_SOP_CLASSES):  # tomosynthesis mostly comes compressed
        ae.add_supported_context(sop_class, [*UNCOMPRESSED, *COMPRESSED])
    return ae
