"""One DICOM object without what names its patient (PS3.15 Annex E).

What may hide in pixel data beside the picture: comments of codestreams, overlays in unused bits, trailing bytes.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from mammoscope import __version__
from mammoscope.datasets.deidentification.descriptors import BINARY_NUMBERS, IdentifyingWords, cleaned, texts
from mammoscope.datasets.deidentification.key_file import KeyFile, Pseudonym
from mammoscope.datasets.deidentification.profile import (
    Action,
    Keep,
    action,
    basic_action,
    capped_age,
    dummy,
    shifted,
    well_formed,
)

_JPEG_START, _J2K_START = b"\xff\xd8", b"\xff\x4f"
_SCAN, _TILE = 0xFFDA, 0xFF90
_JPEG_COMMENT, _J2K_COMMENT = 0xFFFE, 0xFF64
_APPLICATION = range(0xFFE0, 0xFFF0)
_NEEDED_APPLICATION = frozenset((0xFFE0, 0xFFE8, 0xFFEE))
"""JFIF, SPIFF or JPEG-LS colour transform, Adobe: decoders read them."""


def clean_native(dataset: Dataset) -> None:
    """Cut what follows the last sample, and clear the bits of samples that are not pixel (PS3.5 8.1.1).

    Raises
    ------
    ValueError
        If there are fewer bytes than the header asks for.
    """
    data = dataset.PixelData
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
    samples = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("NumberOfFrames") or 1)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = samples // 3 * 2
    needed = int(dataset.Rows) * int(dataset.Columns) * samples * allocated // 8
    if len(data) < needed:
        raise ValueError(f"{len(data)} of {needed} bytes of pixel data")
    data = data[:needed]
    high = int(dataset.get("HighBit", stored - 1))
    if allocated in (8, 16) and stored < allocated and not dataset.get("PixelRepresentation"):
        order = "<" if dataset.original_encoding[1] is not False else ">"
        values = np.frombuffer(data, f"{order}u{allocated // 8}")
        used = ((1 << stored) - 1) << max(high + 1 - stored, 0)
        if (values & ~np.array(used, values.dtype)).any():
            data = (values & np.array(used, values.dtype)).tobytes()
    dataset["PixelData"].value = data + b"\0" * (len(data) % 2)


def clean_compressed(dataset: Dataset) -> None:
    """Blank the comments and application segments of JPEG, JPEG-LS and JPEG 2000 streams; no length changes."""
    data = bytearray(dataset.PixelData)
    at = 0
    while at + 8 <= len(data):
        length = struct.unpack_from("<L", data, at + 4)[0]
        start, end = at + 8, min(at + 8 + length, len(data))
        data[start:end] = blanked(bytes(data[start:end]))
        at = end
    dataset["PixelData"].value = bytes(data)


def blanked(stream: bytes) -> bytes:
    """A codestream, or the first part of one, with its comments blanked; other bytes as they are."""
    spans = list(_hiding_places(stream))
    if not spans:
        return stream
    new = bytearray(stream)
    for start, end in spans:
        new[start:end] = b"\0" * (end - start)
    return bytes(new)


def _hiding_places(stream: bytes) -> Iterator[tuple[int, int]]:
    """Payloads (start, end) of the segments before the first scan or tile."""
    if stream[:2] not in (_JPEG_START, _J2K_START):
        return
    is_jpeg = stream[:2] == _JPEG_START
    at = 2
    while at + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker >> 8 != 0xFF or marker in (_SCAN, _TILE) or length < 2:
            return
        end = min(at + 2 + length, len(stream))
        if is_jpeg and (marker == _JPEG_COMMENT or (marker in _APPLICATION and marker not in _NEEDED_APPLICATION)):
            yield at + 4, end
        elif not is_jpeg and marker == _J2K_COMMENT:
            yield at + 6, end  # after its length and registration, which say whether it is text
        at += 2 + length


_PIXEL_DATA = Tag(0x7FE00010)
_PATIENT_AGE = Tag(0x00101010)
_DICOM_ROOT = "1.2.840.10008."
_CHARACTER_SET = Tag(0x00080005)
_CODES = {
    None: ("113100", "Basic Application Confidentiality Profile"),
    "descriptors": ("113105", "Clean Descriptors Option"),
    Keep.DATES_SHIFTED: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Keep.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Keep.DEVICE: ("113109", "Retain Device Identity Option"),
}
"""PS3.16 CID 7050."""

_IMPLEMENTATION = UID("2.25.190404129218447349012345131418022407799")


class Deidentifier:
    """De-identifies objects of any patient with one key file.

    Basic Application Level Confidentiality Profile with Clean Descriptors, and the options in ``keep``. Beyond the
    profile, every private element, overlay and curve goes, and so does any value in which a name or identifier of
    the same object stands. Text within the picture is not touched.

    Parameters
    ----------
    keys
        Open.
    """

    def __init__(self, keys: KeyFile, keep: Iterable[Keep] = ()) -> None:
        self._keys = keys
        self._keep = frozenset(keep)

    def identity(self, dataset: Dataset) -> tuple[Pseudonym, str]:
        """The patient's pseudonym and the SOP Instance UID that an object as read will have."""
        issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
        return self._keys.pseudonym(str(dataset.PatientID).strip(), issuer), self._uid(str(dataset.SOPInstanceUID))

    def deidentify(self, dataset: Dataset) -> Pseudonym:
        """Change an object in place; give its file header and patient new identities.

        Parameters
        ----------
        dataset
            As read, with pixel data, file header and Patient ID; its transfer syntax stays.

        Raises
        ------
        ValueError
            If its pixel data is shorter than its header says.
        """
        patient, _ = self.identity(dataset)
        names = IdentifyingWords(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        if dataset["PixelData"].is_undefined_length:
            clean_compressed(dataset)
        else:
            clean_native(dataset)
        self._change(dataset, patient, names)
        self._state(dataset, patient)
        dataset.file_meta = _file_meta(dataset, syntax)
        if hasattr(dataset, "preamble"):
            dataset.preamble = b"\0" * 128
        return patient

    def _change(self, dataset: Dataset, patient: Pseudonym, names: IdentifyingWords) -> None:
        for tag in list(dataset.keys()):
            if tag == _PIXEL_DATA:
                continue
            element = _understood(dataset, tag)
            if element is not None and tag == _CHARACTER_SET:
                _keep_known_character_sets(element)
            elif element is None or element.VR == "UN":
                del dataset[tag]
            elif element.VR == "SQ":
                self._change_sequence(dataset, element, patient, names)
            else:
                self._change_value(dataset, element, patient, names)

    def _change_sequence(
        self, dataset: Dataset, element: DataElement, patient: Pseudonym, names: IdentifyingWords
    ) -> None:
        match action(element.tag, "SQ", self._keep):
            case Action.EMPTY:
                element.value = []
            case Action.KEEP | Action.UID:
                for item in element.value:
                    self._change(item, patient, names)
            case _:
                del dataset[element.tag]

    def _change_value(
        self, dataset: Dataset, element: DataElement, patient: Pseudonym, names: IdentifyingWords
    ) -> None:
        tag, vr = element.tag, element.VR
        doing = action(tag, vr, self._keep)
        if doing is Action.CLEAN:
            words = [cleaned(text, names) for text in texts(element)]
            if any(words):
                element.value = words if len(words) > 1 else words[0]
                return
            doing = basic_action(tag)
        if doing is Action.SHIFT:
            moved = [shifted(text, vr, patient.days) for text in texts(element)]
            if None not in moved:
                element.value = moved if len(moved) > 1 else "".join(filter(None, moved))
                return
            doing = basic_action(tag)
        if doing is Action.UID:
            new = [self._uid(text) for text in texts(element)]
            element.value = new if len(new) > 1 else "".join(new)
        elif doing is Action.REMOVE:
            del dataset[tag]
        elif doing is Action.EMPTY:
            element.value = None
        elif doing is Action.DUMMY:
            element.value = dummy(vr)
        elif names.stand_in(element) or not all(well_formed(vr, text) for text in texts(element) if text):
            element.value = None
        elif tag == _PATIENT_AGE and element.value:
            element.value = capped_age(str(element.value))

    def _uid(self, original: str) -> str:
        return original if not original or _is_of_the_standard(original) else self._keys.uid(original)

    def _state(self, dataset: Dataset, patient: Pseudonym) -> None:
        """What PS3.15 E.1.1 asks a de-identified object to say of itself."""
        dataset.PatientID = dataset.PatientName = patient.name
        dataset.PatientIdentityRemoved = "YES"
        dates = Keep.DATES_SHIFTED in self._keep
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if dates else "REMOVED"
        dataset.DeidentificationMethod = f"Mammoscope {__version__}, PS3.15 Annex E"
        chosen: list[Any] = [None, "descriptors", *sorted(self._keep)]
        dataset.DeidentificationMethodCodeSequence = [_code(*_CODES[option]) for option in chosen]


def _understood(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """The element, or ``None`` if it is private, unknown to the standard, or cannot be parsed."""
    group = tag.group
    if tag.is_private or not dictionary_has_tag(tag) or tag.element == 0:
        return None
    if group & 0xFF00 in (0x5000, 0x6000) or group < 0x0008 or tag == 0xFFFCFFFC:
        return None
    try:
        element = dataset[tag]
        # Text under a number's representation would be carried along as numbers
        return None if element.VR in BINARY_NUMBERS and element.VR not in dictionary_VR(tag) else element
    except Exception:
        return None


def _keep_known_character_sets(element: DataElement) -> None:
    if any(text and text not in python_encoding for text in texts(element)):
        element.value = "ISO_IR 192"  # its texts are written anew


def _is_of_the_standard(uid: str) -> bool:
    """Whether a UID names something of DICOM itself rather than an object."""
    return uid.startswith(_DICOM_ROOT) and UID(uid).name != uid


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _file_meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
    """A file header of our own: that of the source may name its sender."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = f"MAMMOSCOPE_{__version__}"[:16]
    return meta
