"""What goes into a result object: the read mammograms of one study, in the order in which a reader hangs them.

Why a reading cannot become a DICOM object.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydicom import Dataset
from pydicom.uid import UID

from mammoscope.descriptors import Description
from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, ReducedMammogram, View
from mammoscope.imaging.dicom import facts
from mammoscope.reasons import Reason, ReasonCode


class ResultError(MammoscopeError):
    """A reading that cannot be written as the object asked for, or an object that says something else.

    Parameters
    ----------
    code
        What kind of reason it is, for counting.
    """

    def __init__(self, sentence: str, code: ReasonCode = ReasonCode.RESULTS) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def reason(self) -> Reason:
        """Code and sentence."""
        return Reason(self.code, str(self))


_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Not the name: one series of a study may have a corrected spelling.
_IDENTITY = ("StudyInstanceUID", "PatientID")
_UID_NAMESPACE = uuid.UUID("5f0c1b1e-6f0e-5d0c-9a55-6d616d6d6f73")
_VIEWS = tuple(View)


@dataclass(frozen=True, slots=True)
class ReadMammogram:
    """A mammogram with its reading.

    Raises
    ------
    ResultError
        If the reading is of an image of another size, or its mammogram's pixels do not fit the mammogram's header.
    """

    mammogram: Mammogram | ReducedMammogram
    reading: Reading

    def __post_init__(self) -> None:
        size = (self.mammogram.rows, self.mammogram.columns)
        read = (self.reading.rows, self.reading.columns)
        if None not in read and read != size:
            raise ResultError(
                f"{self.mammogram.name} has {size[0]} rows and {size[1]} columns but its reading is of an image of "
                f"{read[0]} rows and {read[1]} columns; read the image again."
            )
        header = self.mammogram.header
        if header is not None and (header.get("Rows"), header.get("Columns")) != size:
            raise ResultError(
                f"{self.mammogram.name} has {size[0]} rows and {size[1]} columns of pixels but its header says "
                f"{header.get('Rows')} and {header.get('Columns')}; the object is damaged, send it again."
            )

    @classmethod
    def not_processed(cls, header: Dataset, reason: Reason | str, *, name: str | None = None) -> Self:
        """A mammogram whose pixels could not be had, so that the study's results can say that it was not read.

        Parameters
        ----------
        header
            The DICOM attributes without pixel data.
        reason
            With its code, or one sentence.
        name
            What messages call it; the SOP Instance UID unless given.
        """
        name = name or str(header.get("SOPInstanceUID", ""))
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        if rows < 1 or columns < 1:
            raise ResultError(f"The header of {name} does not say how large the image is; the object is damaged.")
        black = ReducedMammogram.black(header, name, rows, columns)
        known = facts(header, UID(str(header.get("SOPClassUID", ""))))
        reading = Reading.not_processed(name, reason, rows=rows, columns=columns)
        reading = replace(reading, laterality=known["laterality"], view=known["view"])
        return cls(replace(black, **known), reading)

    @property
    def header(self) -> Dataset:
        """The DICOM attributes of the mammogram.

        Raises
        ------
        ResultError
            If it has none, or lacks one of the four UIDs by which DICOM refers to an image.
        """
        header = self.mammogram.header
        if header is None:
            raise ResultError(f"{self.mammogram.name} is a picture file: DICOM results need a DICOM mammogram.")
        missing = [keyword for keyword in _NEEDED if not header.get(keyword)]
        if missing:
            raise ResultError(f"{self.mammogram.name} lacks {', '.join(missing)}: no object can refer to it.")
        return header

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the mammogram."""
        return str(self.header.SOPInstanceUID)

    @property
    def processed(self) -> bool:
        """Whether the mammogram was read."""
        return self.reading.status is not ReadingStatus.NOT_PROCESSED

    @property
    def laterality(self) -> Laterality | None:
        """Which breast, from the mammogram or else its reading."""
        return self.mammogram.laterality or self.reading.laterality

    @property
    def view(self) -> View | None:
        """Which view, from the mammogram or else its reading."""
        return self.mammogram.view or self.reading.view


@dataclass(frozen=True, slots=True)
class TrackedFinding:
    """A finding as every result object of a study carries it.

    Parameters
    ----------
    box
        The finding's box, clipped to the image.
    number
        From 1, by falling score within its image.
    tracking_uid
        The same in every object that shows this finding.
    """

    finding: Finding
    box: Box
    number: int
    tracking_uid: UID

    @property
    def tracking_identifier(self) -> str:
        """A text that tells this finding from the others, as DICOM wants beside the UID."""
        return f"{self.finding.label} {self.number} of {self.tracking_uid[-12:]}"

    @property
    def description(self) -> Description:
        """What a reader says of it; empty where none did."""
        return self.finding.description or Description()

    @property
    def words(self) -> str:
        """Class and score, or what a reader says of it: ``"Mass 87 %"``, ``"Mass, BI-RADS 4B, oval"``."""
        if self.finding.description is None:
            return f"{self.finding.label} {self.percent}"
        return ", ".join(filter(None, (self.finding.label, str(self.description))))

    @property
    def percent(self) -> str:
        """The score as readers see it everywhere, for example ``"87 %"``."""
        return f"{self.finding.score * 100:.0f} %"


def tracked_findings(image: ReadMammogram, algorithm: Algorithm) -> tuple[TrackedFinding, ...]:
    """The findings of one image with the identifiers that all objects share.

    Raises
    ------
    ResultError
        If a finding lies wholly outside its image.
    """
    tracked = []
    for number, finding in enumerate(image.reading.findings, start=1):
        box = finding.box.clipped(image.mammogram.rows, image.mammogram.columns)
        if box is None:
            raise ResultError(f"Finding {number} of {image.mammogram.name} lies outside the image; read it again.")
        uid = result_uid("finding", image.sop_instance_uid, algorithm, str(number), *_finding_content(finding))
        tracked.append(TrackedFinding(finding, box, number, uid))
    return tuple(tracked)


def in_hanging_order(images: Sequence[ReadMammogram]) -> list[ReadMammogram]:
    """The images of one study, checked, in an order that does not depend on the order of arrival.

    CC before MLO before the other views, right before left, images of unknown view or laterality last.

    Raises
    ------
    ResultError
        If there is none, if one is there twice, or if they are not of one study of one patient.
    """
    if not images:
        raise ResultError("There is no mammogram to make a result of.")
    first = images[0].header
    for image in images[1:]:
        differing = [k for k in _IDENTITY if str(image.header.get(k, "")) != str(first.get(k, ""))]
        if differing:
            raise ResultError(
                f"{images[0].mammogram.name} and {image.mammogram.name} differ in {', '.join(differing)}: "
                "make the results of each study by itself.",
                ReasonCode.SEVERAL_PATIENTS if differing == ["PatientID"] else ReasonCode.RESULTS,
            )
    if len({image.sop_instance_uid for image in images}) < len(images):
        raise ResultError("The same mammogram is there twice; give each one once.")
    return sorted(images, key=_hanging_key)


def hanging_number(image: ReadMammogram) -> int:
    """Where an image hangs: 1 for R CC, 2 for L CC, 3 for R MLO and so on; the last number if nobody knows.

    The instance number of an object made of one image. It depends on that image alone, so that a late view, which
    comes between others, does not change objects that were sent already; two images of one view share it.
    """
    if image.view is None or image.laterality is None:
        return 2 * len(_VIEWS) + 1
    return 2 * _VIEWS.index(image.view) + (1 if image.laterality is Laterality.RIGHT else 2)


def result_uid(kind: str, source: str, algorithm: Algorithm, *content: str) -> UID:
    """A UID that is the same whenever it is made of the same things (PS3.5 B.2, a UUID under 2.25)."""
    parts = [kind, source, algorithm.name, algorithm.version, *content]
    return UID(f"2.25.{uuid.uuid5(_UID_NAMESPACE, json.dumps(parts)).int}")


def reading_content(images: Sequence[ReadMammogram]) -> tuple[str, ...]:
    """What was found, as text: equal for equal readings of the same images."""
    content: list[str] = []
    for image in sorted(images, key=lambda image: image.sop_instance_uid):
        reading = image.reading
        content += [image.sop_instance_uid, reading.status, reading.reason or "", repr(reading.threshold)]
        content += [part for finding in reading.findings for part in _finding_content(finding)]
    return tuple(content)


def _finding_content(finding: Finding) -> tuple[str, ...]:
    said = () if finding.description is None else (repr(finding.description),)
    return (*(repr(float(edge)) for edge in finding.box.as_tuple()), repr(float(finding.score)), finding.label, *said)


def _hanging_key(image: ReadMammogram) -> tuple[bool, int, bool, str]:
    unknown = image.view is None or image.laterality is None
    position = len(_VIEWS) if image.view is None else _VIEWS.index(image.view)
    return unknown, position, image.laterality is not Laterality.RIGHT, image.sop_instance_uid
