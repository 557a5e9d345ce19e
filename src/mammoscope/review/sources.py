"""Where studies come from: the folder of a data set, or a node that receives and reads them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydicom import Dataset

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.dataset import ANNOTATIONS
from mammoscope.descriptors import Description
from mammoscope.evaluation.prediction_files import read_predictions
from mammoscope.imaging import MammogramError, MammogramReader, attributes
from mammoscope.node.db.models import DeliveryRecord, DeliveryStatus, ImageRecord, StudyRecord, Whereabouts
from mammoscope.node.db.repository import Records
from mammoscope.review.store import Origin, ProposedBox, SourceImage, SourceStudy
from mammoscope.untrusted_text import one_line

KEYWORDS = (
    "PatientName", "PatientID", "StudyDate", "Manufacturer", "ManufacturerModelName", "Rows", "Columns", "Laterality",
    "ImageLaterality", "ViewPosition", "ViewCodeSequence", "FrameLaterality", "SharedFunctionalGroupsSequence",
)  # fmt: skip
MOST_LISTED = 2000
"""Studies of a node that are looked through each time."""

log = structlog.get_logger(__name__)


class StudySource(Protocol):
    """What a reading room needs of what it reads."""

    title: str
    """What pages call it."""
    labels: tuple[str, ...]
    """The classes that a box can have."""

    def changed(self, known: Mapping[str, str]) -> Iterator[SourceStudy]:
        """Yield the studies whose version is another than the known one, by their keys."""

    def gone(self, known: Mapping[str, str]) -> list[str]:
        """Keys of studies that are not there any longer."""


class DatasetStudies:
    """The images of a data set's folder, those of one study (or else of one patient) together.

    Parameters
    ----------
    folder
        As `mammoscope.datasets.load_dataset` takes it.
    predictions
        What a detector found on them, in a file that `mammoscope evaluate --predictions` takes.

    Raises
    ------
    DatasetError, EvaluationError
        If one of them cannot be read.
    """

    def __init__(self, folder: Path, predictions: Path | None = None) -> None:
        self.folder = folder
        self.dataset: AnnotatedDataset = load_dataset(folder)
        self.title = self.dataset.name
        self.labels = self.dataset.labels or ("Mass",)
        self._came_at = datetime.fromtimestamp((folder / ANNOTATIONS).stat().st_mtime, UTC)
        self._found = _found_by_image(self.dataset, predictions)

    def changed(self, known: Mapping[str, str]) -> Iterator[SourceStudy]:
        """As of `StudySource`."""
        for key, images in self._studies().items():
            study = self._study(key, images)
            if known.get(key) != study.version:
                yield study

    def gone(self, known: Mapping[str, str]) -> list[str]:
        """As of `StudySource`."""
        return sorted(set(known) - set(self._studies()))

    def _studies(self) -> dict[str, list[AnnotatedImage]]:
        studies: dict[str, list[AnnotatedImage]] = defaultdict(list)
        for image in self.dataset:
            named = image.facts.get("study_id")
            studies[f"{image.patient} {named}" if named else image.patient].append(image)
        return studies

    def _study(self, key: str, images: list[AnnotatedImage]) -> SourceStudy:
        brought = tuple(self._image(image) for image in images)
        version = hashlib.sha256(repr(brought).encode()).hexdigest()
        scanner = images[0].facts.get("scanner")
        return SourceStudy(
            one_line(key, 250), one_line(images[0].patient, 250), self._came_at, brought, version,
            scanner=one_line(scanner, 120) if scanner else "",
        )  # fmt: skip

    def _image(self, image: AnnotatedImage) -> SourceImage:
        facts = image.box_facts or ({},) * len(image.boxes)
        boxes = [
            ProposedBox(Origin.ANNOTATION, box.as_tuple(), label, details=_details(said))
            for box, label, said in zip(image.boxes, image.labels, facts, strict=True)
        ]
        return SourceImage(
            str(image.facts.get("file_name", image.name)), image.path.absolute(), image.laterality, image.view,
            image.rows, image.columns, (*boxes, *self._found.get(image.id, ())),
        )  # fmt: skip


class NodeStudies:
    """The studies of a node, as long as it knows them; their images are shown as long as it keeps them.

    Parameters
    ----------
    records
        The node's.
    storage
        The node's storage folder.
    reader
        Reads the headers: a patient's name is in no database of the node.
    labels
        The classes that a box can have.
    """

    def __init__(
        self,
        records: Records,
        storage: Path,
        reader: MammogramReader,
        title: str,
        labels: tuple[str, ...] = ("Mass",),
    ) -> None:
        self._records = records
        self._inbox = storage / "inbox"
        self._reader = reader
        self.title = title
        self.labels = labels

    def changed(self, known: Mapping[str, str]) -> Iterator[SourceStudy]:
        """As of `StudySource`."""
        for record in self._records.each_study(MOST_LISTED):
            version = _version(record)
            if known.get(record.study_instance_uid) != version:
                yield self._study(record, version)

    def gone(self, known: Mapping[str, str]) -> list[str]:
        """As of `StudySource`; a node forgets no study."""
        del known
        return []

    def _study(self, record: StudyRecord, version: str) -> SourceStudy:
        uid = record.study_instance_uid
        read = {image.sop_instance_uid: image for image in record.images}
        images, headers = [], []
        for there in record.objects:
            path = self._inbox / uid / f"{there.sop_instance_uid}.dcm"
            header = self._header(path) if there.whereabouts is Whereabouts.KEPT else Dataset()
            headers.append(header)
            images.append(_image_of_node(there.sop_instance_uid, path, header, read.get(there.sop_instance_uid)))
        first = next((header for header in headers if len(header)), Dataset())
        reasons = [image.reason for image in images if image.reason]
        date = attributes.text(first, "StudyDate") or ""
        names = (attributes.text(first, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
        return SourceStudy(
            key=uid,
            patient=one_line(attributes.text(first, "PatientID") or "", 250),
            patient_name=one_line(attributes.text(first, "PatientName") or "", 250),
            came_at=record.last_received_at,
            images=tuple(images),
            version=version,
            state=str(record.state),
            reason=_why(record) or (reasons[0] if reasons else None),
            destinations=tuple((delivery.destination, str(delivery.status)) for delivery in _deliveries(record)),
            taken_on=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else "",
            scanner=one_line(" ".join(filter(None, names)), 120),
        )

    def _header(self, path: Path) -> Dataset:
        try:
            return self._reader.read_header(path, path.stem, keywords=KEYWORDS)
        except MammogramError as error:
            log.info("header not readable", image=path.stem, reason=str(error))
            return Dataset()


def _details(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a data set says of a box, as a reader would."""
    said = facts.get("attributes")
    return Description.of(said).to_dict() if isinstance(said, Mapping) else {}


def _image_of_node(uid: str, path: Path, header: Dataset, read: ImageRecord | None) -> SourceImage:
    rows, columns = (attributes.number(header, keyword) for keyword in ("Rows", "Columns"))
    found = () if read is None else read.found
    return SourceImage(
        uid,
        path,
        attributes.laterality(header),
        attributes.view(header),
        int(rows) if rows else None,
        int(columns) if columns else None,
        tuple(ProposedBox(Origin.MODEL, (x0, y0, x1, y1), label, score) for x0, y0, x1, y1, score, label in found),
        None if read is None else read.reason,
    )


def _deliveries(record: StudyRecord) -> tuple[DeliveryRecord, ...]:
    return record.reports[-1].deliveries if record.reports else ()


def _why(record: StudyRecord) -> str | None:
    """What of a study as a whole did not go well, in a sentence."""
    if record.failures and not record.reports:
        return record.failures[-1].reason
    parked = next((one for one in _deliveries(record) if one.status is DeliveryStatus.PARKED), None)
    if parked is None:
        return None
    return f"Not sent to {parked.destination}: {one_line(' '.join(parked.errors), 200) or 'no reason given'}"


def _version(record: StudyRecord) -> str:
    objects = [(one.sop_instance_uid, str(one.whereabouts)) for one in record.objects]
    deliveries = [(one.destination, str(one.status), one.errors) for one in _deliveries(record)]
    reports, failures = record.earlier_reports + len(record.reports), record.earlier_failures + len(record.failures)
    facts = ["2", str(record.state), reports, failures, objects, deliveries]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _found_by_image(dataset: AnnotatedDataset, predictions: Path | None) -> dict[int, list[ProposedBox]]:
    if predictions is None:
        return {}
    read = read_predictions(predictions, dataset)
    return {
        image: [ProposedBox(Origin.MODEL, one.box.as_tuple(), one.label, one.score) for one in found]
        for image, found in read.by_image.items()
    }
