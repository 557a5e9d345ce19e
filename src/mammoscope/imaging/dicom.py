"""A mammogram from a DICOM file."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import VR

from mammoscope.imaging import attributes
from mammoscope.imaging.header import inflated, is_deflated
from mammoscope.imaging.mammogram import WHITE, Laterality, Mammogram, MammogramError
from mammoscope.imaging.pixel_data import WAVELETS, PixelFormat, reduced_values, stored_values
from mammoscope.imaging.pyramid import TilePyramid, curve_of, tile_pyramid, turned
from mammoscope.imaging.voi_lut import displayed, holds_padding, indices, ways_to_display

_MAMMOGRAPHY = frozenset(
    (DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing)
)
_MAYBE_MAMMOGRAPHY = frozenset(
    (
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
    )
)
_SECONDARY_MODALITIES = frozenset(("MG", "RG", "CR", "DX", "OT", "SC", "XC", ""))
_VOLUMES = frozenset(
    (
        BreastTomosynthesisImageStorage,
        BreastProjectionXRayImageStorageForPresentation,
        BreastProjectionXRayImageStorageForProcessing,
    )
)
MOST_HEADER_BYTES = 512 * 1024
MOST_ELEMENT_BYTES = 256 * 1024
"""Of an attribute that results may need: a VOI LUT of 16 bits has half of that."""
MOST_ELEMENTS = 4096

_VRS = frozenset(vr.value for vr in VR)
_PIXEL_DATA = 0x7FE00010
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, slots=True)
class EncodedHeader:
    """The attributes of a file as the bytes of a data set in its own encoding, fit for a process that trusts nobody.

    Parameters
    ----------
    implicit, little_endian
        How they are encoded (PS3.5 section 7).
    """

    data: bytes
    implicit: bool
    little_endian: bool


@dataclass(frozen=True, slots=True, eq=False)
class DicomFile:
    """A DICOM file whose attributes were parsed and whose pixels were not.

    Parameters
    ----------
    data
        Its bytes; those of a deflated file inflated.
    header
        Its attributes before the pixel data.
    encoded
        The same as bytes (`encoded_header`), made before anything in them was interpreted.
    """

    path: Path
    name: str
    data: bytes
    header: Dataset
    encoded: EncodedHeader

    @classmethod
    def open(cls, path: Path, name: str) -> Self:
        """Parse a file, with or without its preamble.

        Raises
        ------
        MammogramError
            If it cannot be parsed.
        OSError
            If it cannot be opened.
        """
        data = inflated(path.read_bytes(), name)
        header = _parsed(io.BytesIO(data), name, pixels=False)
        return cls(path, name, data, header, encoded_header(header))

    @property
    def sop_class(self) -> UID:
        """SOP Class UID, of the data set or else of its File Meta Information; empty where neither has one."""
        return UID(attributes.text(self.header, "SOPClassUID") or _meta(self.header, "MediaStorageSOPClassUID") or "")

    def check_kind(self) -> None:
        """Refuse everything that is not one mammogram, from its header alone.

        Raises
        ------
        MammogramError
            If it is another kind of object.
        """
        _check_kind(self.header, self.sop_class, self.name)

    def mammogram(self) -> Mammogram:
        """The mammogram that it holds.

        Raises
        ------
        MammogramError
            If it is another kind of object, or is encrypted, multi-frame, cut short or damaged.
        """
        stored, pixel_format = self._stored_values()
        intent = attributes.intent(self.header, self.sop_class)
        pixels = displayed(stored, self.header, pixel_format, intent, self.name)
        return Mammogram(
            pixels, self.name, header=_without_pixels(self.header), path=self.path, **facts(self.header, self.sop_class)
        )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns.

        Raises
        ------
        MammogramError
            If its attributes do not say how pixels are stored.
        """
        pixel_format = PixelFormat.of(self.header, self.name)
        return pixel_format.rows, pixel_format.columns

    def reduced(self, smallest: int) -> tuple[NDArray[np.uint16], int] | None:
        """What a reader sees, at a lower resolution, where the file holds one that is enough.

        Parameters
        ----------
        smallest
            What the longer side must still have, in pixels.

        Returns
        -------
        tuple of ndarray and int, or None
            As `Mammogram.pixels`, and by what factor each side is smaller (`reduced_values` says where its samples
            lie). ``None`` where the whole image has to be decoded: there is no lower resolution, or pixels are padding,
            whose values would be mixed with those of their neighbours.

        Raises
        ------
        MammogramError
            As `mammogram`.
        """
        self.check_kind()
        syntax = UID(_meta(self.header, "TransferSyntaxUID") or "")
        if syntax not in WAVELETS:
            return None
        pixel_format = PixelFormat.of(self.header, self.name)
        dataset = _parsed(io.BytesIO(self.data), self.name, pixels=True)
        _check_pixel_data(dataset, self.data, self.name)
        found = reduced_values(dataset, syntax, pixel_format, self.name, smallest)
        if found is None or holds_padding(found[0], self.header, pixel_format):
            return None
        intent = attributes.intent(self.header, self.sop_class)
        return displayed(found[0], self.header, pixel_format, intent, self.name), found[1]

    def pyramid(self, laterality: Laterality | None = None) -> TilePyramid:
        """Its stored values as tiles, with every way to display them; of a colour capture its greys.

        Parameters
        ----------
        laterality
            Which breast, where the header does not say it.

        Raises
        ------
        MammogramError
            As `mammogram`.
        """
        stored, pixel_format = self._stored_values()
        if stored.ndim == 3 or pixel_format.photometric == "PALETTE COLOR":
            greys = self.mammogram().pixels
            return tile_pyramid(greys, turn=turned(greys, laterality, None))
        intent = attributes.intent(self.header, self.sop_class)
        ways, padding = ways_to_display(stored, self.header, pixel_format, intent, self.name)
        values = indices(stored, pixel_format).astype(np.uint16)
        sample = (ways[0][1][values[::8, ::8]] * WHITE).astype(np.uint16)
        said = attributes.texts(self.header, "PatientOrientation")
        side = attributes.laterality(self.header) or laterality
        return tile_pyramid(
            values,
            [curve_of(greys, what) for what, greys in ways],
            offset=pixel_format.lowest,
            padding=padding,
            turn=turned(sample, side, (said[0], said[1]) if len(said) == 2 else None),
        )

    def _stored_values(self) -> tuple[NDArray[np.integer[Any]], PixelFormat]:
        self.check_kind()
        try:
            pixel_format = PixelFormat.of(self.header, self.name)
            return _stored(self.data, pixel_format, self.name), pixel_format
        except (MammogramError, NotImplementedError):  # as pydicom has it of a VR that it does not know
            _check_vrs(self.header, self.name)
            raise


def read_dicom(path: Path, name: str) -> Mammogram:
    """Read a DICOM file, with or without its preamble, as a mammogram.

    Digital mammography X-ray images for presentation and for processing are read, and secondary captures, CR and DX
    images whose header says that they are mammograms (digitised film).

    Raises
    ------
    MammogramError
        If it is another kind of object, or is encrypted, multi-frame, cut short or damaged.
    """
    return DicomFile.open(path, name).mammogram()


def facts(header: Dataset, sop_class: UID) -> dict[str, Any]:
    """What a header says of a mammogram, by the fields of `Mammogram`."""
    return {
        "laterality": attributes.laterality(header),
        "view": attributes.view(header),
        "view_modifiers": attributes.view_modifiers(header),
        "spacing": attributes.spacing(header),
        "acquisition": attributes.acquisition(header, sop_class),
    }


def encoded_header(header: Dataset) -> EncodedHeader:
    """The attributes of a file that was just parsed, without those that are larger than any result needs.

    Elements of more than `MOST_ELEMENT_BYTES` are left out, and all after `MOST_HEADER_BYTES` or `MOST_ELEMENTS`.
    """
    implicit, little_endian = header.original_encoding
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = bool(implicit), little_endian is not False
    taken = 0
    for tag in sorted(header.keys()):
        if tag >> 16 == 0x7FE0:
            break
        element = DicomBytesIO()
        element.is_implicit_VR, element.is_little_endian = out.is_implicit_VR, out.is_little_endian
        try:
            write_data_element(element, header.get_item(tag), _character_set(header))
        except Exception:  # an element whose bytes make no sense to anybody
            continue
        encoded = element.getvalue()
        if len(encoded) <= MOST_ELEMENT_BYTES:
            taken += 1
            if taken > MOST_ELEMENTS or out.tell() + len(encoded) > MOST_HEADER_BYTES:
                break
            out.write(encoded)
    return EncodedHeader(out.getvalue(), out.is_implicit_VR, out.is_little_endian)


def _character_set(header: Dataset) -> list[str]:
    named = header.original_character_set
    return [named] if isinstance(named, str) else list(named)


def decoded_header(encoded: EncodedHeader) -> Dataset:
    """The attributes that `encoded_header` made bytes of.

    Raises
    ------
    MammogramError
        If they are more than it makes, or no data set.
    """
    if len(encoded.data) > MOST_HEADER_BYTES:
        raise MammogramError("the header is larger than any that is taken: send the file again from its source.")
    try:
        return read_dataset(io.BytesIO(encoded.data), encoded.implicit, encoded.little_endian)
    except Exception as error:
        raise MammogramError("the header is damaged: send the file again from its source.") from error


def read_header(path: Path, name: str, keywords: Sequence[str] = ()) -> Dataset:
    """Read the attributes of a DICOM file of any kind, without pixel data, and its File Meta Information.

    Parameters
    ----------
    keywords
        Only these attributes; all if there is none.

    Raises
    ------
    MammogramError
        If it cannot be parsed.
    """
    if is_deflated(path):
        file: BinaryIO = io.BytesIO(inflated(path.read_bytes(), name))
    else:
        file = path.open("rb")
    with file:
        return _parsed(file, name, pixels=False, keywords=keywords)


def read_stored_values(path: Path, name: str) -> NDArray[np.integer[Any]]:
    """The pixel values of a one-frame image of any kind as they are stored, for masks: nothing of display is applied.

    Raises
    ------
    MammogramError
        If it is no image, or is encrypted, multi-frame, cut short or damaged.
    """
    data = inflated(path.read_bytes(), name)
    return _stored(data, PixelFormat.of(_parsed(io.BytesIO(data), name, pixels=False), name), name)


def _stored(data: bytes, pixel_format: PixelFormat, name: str) -> NDArray[np.integer[Any]]:
    dataset = _parsed(io.BytesIO(data), name, pixels=True)
    _check_pixel_data(dataset, data, name)
    return stored_values(dataset, _transfer_syntax(dataset, name), pixel_format, name)


def _parsed(file: BinaryIO, name: str, *, pixels: bool, keywords: Sequence[str] = ()) -> Dataset:
    try:
        # force: a file may lack its preamble and File Meta Information
        return dcmread(file, force=True, stop_before_pixels=not pixels, specific_tags=list(keywords) or None)
    except MemoryError:
        raise
    except (zlib.error, struct.error, EOFError) as error:
        raise MammogramError(
            f"{name} is a cut or damaged DICOM file: copy or send it again from its source."
        ) from error
    except Exception as error:
        raise MammogramError(
            f"{name} cannot be parsed as DICOM, it is damaged: copy or send it again from its source."
        ) from error


def _check_kind(header: Dataset, sop_class: UID, name: str) -> None:
    """Refuse everything that is not one mammogram, from its header alone."""
    if sop_class == MediaStorageDirectoryStorage:
        raise MammogramError(f"{name} is a DICOMDIR, the index of a disc: name the image files beside it.")
    if sop_class in _VOLUMES:
        raise MammogramError(
            f"{name} is breast tomosynthesis ({sop_class.name}), which is not read: "
            "send the 2D or synthesised 2D mammogram of the same view."
        )
    if not sop_class:
        raise MammogramError(
            f"{name} has no SOP Class UID, so it is no complete DICOM image: copy or send it again from its source."
        )
    if sop_class not in _MAMMOGRAPHY and sop_class not in _MAYBE_MAMMOGRAPHY:
        raise MammogramError(
            f"{name} is no mammogram but of the class {_class_name(sop_class)}: send mammography (MG) images only."
        )
    if sop_class not in _MAMMOGRAPHY and not says_mammogram(header):
        raise MammogramError(
            f"{name} is of the class {_class_name(sop_class)} and does not say that it is a mammogram: "
            "send mammography (MG) images, or set its Modality to MG or its Body Part Examined to BREAST."
        )
    if attributes.is_specimen(header):
        raise MammogramError(f"{name} is a radiograph of a tissue specimen: send mammograms of the breast only.")
    frames = attributes.number(header, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise MammogramError(f"{name} holds {int(frames)} frames: send each mammogram as an image of its own.")


def says_mammogram(header: Dataset) -> bool:
    """Whether an object of a class that need not hold a mammogram says that it does."""
    return attributes.word(header, "Modality") in _SECONDARY_MODALITIES and attributes.is_mammographic(header)


def _check_pixel_data(dataset: Dataset, data: bytes, name: str) -> None:
    if dataset.get_item(_PIXEL_DATA) is not None and dataset.get("PixelData"):
        return
    if "EncryptedAttributesSequence" in dataset:
        raise MammogramError(f"{name} is encrypted: decrypt it, or send it again without encryption.")
    if any(keyword in dataset for keyword in _PIXEL_KEYWORDS[1:]):
        raise MammogramError(f"{name} holds floating-point pixels: convert it to 16-bit unsigned integers.")
    _check_vrs(dataset, name)
    if _PIXEL_DATA.to_bytes(4, "big") in data or b"\xe0\x7f\x10\x00" in data:
        raise MammogramError(f"{name} is cut short within its pixel data: copy or send it again from its source.")
    raise MammogramError(f"{name} holds no pixel data: copy or send it again from its source.")


def _check_vrs(dataset: Dataset, name: str) -> None:
    """Refuse an element of a VR that PS3.5 table 6.2-1 does not have, where what comes after it was not understood."""
    for tag in sorted(dataset.keys()):
        try:
            vr = getattr(dataset.get_item(tag), "VR", None)
        except NotImplementedError:  # pydicom interprets an empty element at once
            vr = "?"
        if vr is not None and vr not in _VRS:
            raise MammogramError(
                f"{name} has an element ({tag >> 16:04X},{tag & 0xFFFF:04X}) of the unknown value representation "
                f"'{vr if vr.isalnum() else '?'}', beyond which nothing can be read: send or convert it as Implicit VR "
                "Little Endian."
            )


def _transfer_syntax(dataset: Dataset, name: str) -> UID:
    said = _meta(dataset, "TransferSyntaxUID")
    if said:
        return UID(said)
    if dataset["PixelData"].is_undefined_length:
        raise MammogramError(
            f"{name} holds compressed pixel data and no Transfer Syntax UID to tell how: "
            "send it again with its file header."
        )
    implicit, little = dataset.original_encoding
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    return syntax


def _meta(dataset: Dataset, keyword: str) -> str | None:
    return attributes.text(getattr(dataset, "file_meta", Dataset()), keyword)


def _class_name(sop_class: UID) -> str:
    return sop_class.name if sop_class.name != str(sop_class) else f"{sop_class} (unknown)"


def _without_pixels(header: Dataset) -> Dataset:
    """The attributes alone: pydicom's `FileDataset` would keep the bytes of the whole file alive."""
    plain = Dataset(
        {
            tag: header.get_item(tag)
            for tag in header.keys()  # noqa: SIM118 - iterating a Dataset parses each element
        }
    )
    implicit, little = header.original_encoding
    plain.set_original_encoding(implicit, little, header.original_character_set)
    return plain
