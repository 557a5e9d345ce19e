"""`Reception`: what arrives is kept, file and row, before it is acknowledged.

Telling a resend of an image from another image under the same SOP Instance UID.
"""

import errno
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.errors import MammoscopeError
from mammoscope.imaging.header import pixel_digest
from mammoscope.network import IGNORED_SOP_CLASSES, REPORTED_SOP_CLASSES, ObjectRefusedError, Receipt, ReceivedObject
from mammoscope.node.db.engine import where_and_why
from mammoscope.node.db.repository import Records
from mammoscope.node.events import Event, ObjectReceived, Origin
from mammoscope.node.storage.inbox import Inbox


def differ(digest: str, other: str) -> bool:
    """Whether two digests show that the pixels differ.

    Those of files in different transfer syntaxes show nothing: a PACS may have compressed what it sends again.
    """
    syntax, _, _ = digest.partition(" ")
    return other.startswith(f"{syntax} ") and digest != other


OTHER_PIXELS = TOO_MANY_IMAGES = 0xC000
"""Cannot understand (DICOM PS3.4 Table B.2-1): PS3.4 has no status for a UID used twice, and no other tells the sender
that trying again is of no use."""
MOST_IMAGES = 1000
"""Of one Study Instance UID; the largest examinations have some hundred. All that is done with a study, in memory and
in time, is bounded by it."""

log = structlog.get_logger(__name__)


class Reception:
    """Takes the objects that arrive, whichever way they come.

    Parameters
    ----------
    origin_of
        Why an object is here.
    on_event
        Told of each object.
    on_image
        Called when an image is safe.
    accession_digest
        What of an Accession Number is recorded.
    """

    def __init__(
        self,
        inbox: Inbox,
        records: Records,
        origin_of: Callable[[ReceivedObject], Origin],
        on_event: Callable[[Event], None],
        on_image: Callable[[], None],
        accession_digest: Callable[[str], str | None] = lambda _number: None,
    ) -> None:
        self._accession_digest = accession_digest
        self._inbox = inbox
        self._records = records
        self._origin_of = origin_of
        self._on_event = on_event
        self._on_image = on_image

    def receive(self, received: ReceivedObject, origin: Origin | None = None) -> Receipt:
        """Keep an object; it is safe when this returns.

        Parameters
        ----------
        origin
            ``None`` to ask ``origin_of``.

        Raises
        ------
        ObjectRefusedError
            If another image has its SOP Instance UID, or its study has as many images as a study may.
        OSError
            If it cannot be kept.
        """
        origin = self._origin_of(received) if origin is None else origin
        try:
            return self._keep(received, origin)
        except SQLAlchemyError as error:  # a full disk or a server that is away: it may be sent again later
            log.warning("object not recorded", image=received.sop_instance_uid, error=where_and_why(error))
            raise OSError(errno.EIO, "the database does not take it") from None

    def _keep(self, received: ReceivedObject, origin: Origin) -> Receipt:
        self._refuse_more_than_a_study_has(received)
        receipt = self._inbox.add(received)
        study, image = received.study_instance_uid, received.sop_instance_uid
        if receipt is Receipt.KNOWN and received.sop_class_uid not in REPORTED_SOP_CLASSES:  # whose pixels are not kept
            self._refuse_other_pixels(received)
        if receipt is not Receipt.IGNORED and (receipt is Receipt.STORED or not self._records.knows(study, image)):
            # Of a file without a row the sender was never told "success": a crash came between them.
            self._records.add_object(
                study,
                image,
                str(received.sop_class_uid),
                peer=received.calling_ae_title,
                origin=origin,
                accession=self._accession_of(received),
            )
            self._on_image()
        self._on_event(
            ObjectReceived(
                study=study,
                sop_instance=image,
                sop_class=str(received.sop_class_uid),
                peer=received.calling_ae_title,
                address=received.address,
                outcome=str(receipt),
                origin=origin,
            )
        )
        return receipt

    def _accession_of(self, received: ReceivedObject) -> str | None:
        try:
            return self._accession_digest(received.accession_number)
        except (OSError, MammoscopeError) as error:  # the image is worth more than being found by its number
            log.warning("accession not recorded", image=received.sop_instance_uid, error=where_and_why(error))
            return None

    def _refuse_more_than_a_study_has(self, received: ReceivedObject) -> None:
        study, image = received.study_instance_uid, received.sop_instance_uid
        if received.sop_class_uid in IGNORED_SOP_CLASSES or not self._records.has_images(study, MOST_IMAGES):
            return
        if not self._records.knows(study, image) and not self._inbox.image(study, image).exists():
            raise ObjectRefusedError(
                f"object {image} was refused: study {study} has {MOST_IMAGES} images already, more than any"
                " examination; the sender must give each study a Study Instance UID of its own",
                TOO_MANY_IMAGES,
                comment=f"the study has {MOST_IMAGES} images already",
            )

    def _refuse_other_pixels(self, received: ReceivedObject) -> None:
        study, image = received.study_instance_uid, received.sop_instance_uid
        try:
            ours = self._records.digest(study, image)
            if ours is None and (file := self._inbox.image(study, image)).exists():
                ours = pixel_digest(file)
            same = ours is None or not differ(ours, pixel_digest(received.path))
        except OSError:
            raise
        except Exception as error:  # a damaged header: what is here already stays as it is
            log.warning("resend not compared", image=image, error=where_and_why(error))
            return
        if not same:
            raise ObjectRefusedError(
                f"object {image} was refused: the object of this SOP Instance UID that is here has other pixels; the"
                " sender must give a changed image a UID of its own",
                OTHER_PIXELS,
                comment="another image has this SOP Instance UID",
            )
