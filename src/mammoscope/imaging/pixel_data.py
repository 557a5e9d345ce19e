"""The stored pixel values of one DICOM image: transfer syntax undone, unused bits gone, nothing displayed yet.

What the first bytes of a compressed frame say about it, to catch a decoder that is about to be wrong.

Only markers are read: JPEG and JPEG-LS (ITU-T T.81 Annex B, T.87 Annex C) and JPEG 2000 (ITU-T T.800 Annex A).
"""

import io
import struct
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from mammoscope.imaging.attributes import number, word
from mammoscope.imaging.mammogram import MammogramError

_J2K_START = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_END = b"\xff\xd9"


class Coding(StrEnum):
    """Family of a compressed stream, in the words of an error message."""

    JPEG = "JPEG"
    JPEG_LOSSLESS = "JPEG Lossless"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True, slots=True)
class Codestream:
    """The frame header of one compressed image."""

    coding: Coding
    rows: int
    columns: int
    components: int
    precision: int
    complete: bool
    """Whether the end marker is there; a stream without it was cut."""
    is_plain: bool = True
    """Of JPEG 2000: whether its samples are unsigned and its image begins where its grid does."""


def parse_codestream(frame: bytes) -> Codestream | None:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 stream.

    Parameters
    ----------
    frame
        One compressed frame; trailing zero bytes (DICOM padding) are allowed.

    Returns
    -------
    Codestream or None
        ``None`` where it is no such stream or ends before its frame header does.
    """
    try:
        if frame.startswith(b"\xff\xd8"):
            return _parse_jpeg(frame)
        if frame.startswith((_J2K_START, _JP2_SIGNATURE)):
            return _parse_jpeg_2000(frame)
    except (struct.error, IndexError):
        return None
    return None


def _parse_jpeg(frame: bytes) -> Codestream | None:
    position = 2
    while True:
        while frame[position] != 0xFF:  # garbage between segments is tolerated by every decoder
            position += 1
        while frame[position] == 0xFF:  # any number of fill bytes may stand before a marker
            position += 1
        marker = frame[position]
        position += 1
        if marker in (0xD9, 0xDA):  # end of image or start of scan: no frame header came
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand-alone markers have no segment
            continue
        (length,) = struct.unpack_from(">H", frame, position)
        coding = _coding_of_frame_marker(marker)
        if coding is not None:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 2)
            return Codestream(coding, rows, columns, components, precision, _is_complete(frame))
        position += length


def _coding_of_frame_marker(marker: int) -> Coding | None:
    if marker == 0xF7:
        return Coding.JPEG_LS
    if marker == 0xC3:
        return Coding.JPEG_LOSSLESS
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
        return Coding.JPEG
    return None


def _parse_jpeg_2000(frame: bytes) -> Codestream | None:
    start = frame.find(_J2K_START)
    if start < 0:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    precision, signed = (frame[start + 42] & 0x7F) + 1, bool(frame[start + 42] & 0x80)
    is_plain = not (signed or x0 or y0)
    return Codestream(Coding.JPEG_2000, y1 - y0, x1 - x0, components, precision, _is_complete(frame), is_plain)


def _is_complete(frame: bytes) -> bool:
    return frame[-64:].rstrip(b"\0").endswith(_END)


MAX_PIXELS = 128 * 1024 * 1024
"""Rows times columns beyond which an image is refused; the largest detectors and film scans stay below 40 million."""

NATIVE = frozenset(
    (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
)


@dataclass(frozen=True, slots=True)
class _Decoder:
    plugin: str
    coding: Coding | None
    lossy: bool = False


# One decoder per transfer syntax and no falling back to another one: the fallback of a decoder that refused is how
# wrong pixels get in. The choice is by speed and by how it fails on damaged data. Only gdcm reads JPEG Lossless.
# pylibjpeg-libjpeg (GPL) is never named here, so that it is not used where it happens to be installed.
_DECODERS = {
    RLELossless: _Decoder("pylibjpeg", None),
    JPEGBaseline8Bit: _Decoder("pillow", Coding.JPEG, lossy=True),
    JPEGExtended12Bit: _Decoder("pillow", Coding.JPEG, lossy=True),
    JPEGLossless: _Decoder("gdcm", Coding.JPEG_LOSSLESS),
    JPEGLosslessSV1: _Decoder("gdcm", Coding.JPEG_LOSSLESS),
    JPEGLSLossless: _Decoder("pyjpegls", Coding.JPEG_LS),
    JPEGLSNearLossless: _Decoder("pyjpegls", Coding.JPEG_LS, lossy=True),
    JPEG2000Lossless: _Decoder("pylibjpeg", Coding.JPEG_2000),
    JPEG2000: _Decoder("pylibjpeg", Coding.JPEG_2000, lossy=True),
    HTJ2KLossless: _Decoder("pylibjpeg", Coding.JPEG_2000),
    HTJ2KLosslessRPCL: _Decoder("pylibjpeg", Coding.JPEG_2000),
    HTJ2K: _Decoder("pylibjpeg", Coding.JPEG_2000, lossy=True),
}

WAVELETS = frozenset(syntax for syntax, decoder in _DECODERS.items() if decoder.coding is Coding.JPEG_2000)
"""Transfer syntaxes whose streams hold an image at several resolutions."""

_PHOTOMETRIC = {
    1: frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")),
    3: frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")),
}
_AS_STORED: Any = {"correct_unused_bits": False}
_AGAIN = "copy or send it again from its source"
_UNCOMPRESSED = "send or convert it as Explicit VR Little Endian"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The Image Pixel attributes (PS3.3 C.7.6.3) that say how a sample is stored, checked."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def lowest(self) -> int:
        """The lowest value that a sample can have."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def levels(self) -> int:
        """How many values a sample can have."""
        return 1 << self.bits_stored

    @property
    def frame_bytes(self) -> int:
        """Length of the uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @classmethod
    def of(cls, header: Dataset, name: str) -> "PixelFormat":
        """The format that a header describes.

        Raises
        ------
        MammogramError
            If an attribute is missing or holds what no mammogram has.
        """
        rows = _required_count(header, "Rows", name)
        columns = _required_count(header, "Columns", name)
        if rows * columns > MAX_PIXELS:
            raise MammogramError(
                f"{name} claims {rows} x {columns} pixels, more than any mammogram has: check the file at its source."
            )
        allocated = _required_count(header, "BitsAllocated", name)
        if allocated not in (8, 16):
            raise MammogramError(
                f"{name} stores {allocated} bits per sample where mammograms have 8 or 16: "
                "convert it to 16-bit unsigned integers."
            )
        samples = _count(header, "SamplesPerPixel") or 1
        if samples not in (1, 3):
            raise MammogramError(f"{name} has {samples} samples per pixel: convert it to a single grey channel.")
        photometric = word(header, "PhotometricInterpretation")
        if photometric not in _PHOTOMETRIC[samples]:
            raise MammogramError(
                f"{name} has no usable Photometric Interpretation, so black cannot be told from white: "
                "correct it to MONOCHROME1 or MONOCHROME2."
            )
        stored = _count(header, "BitsStored") or allocated
        if not 1 <= stored <= allocated:
            raise MammogramError(
                f"{name} claims {stored} stored bits in {allocated} allocated ones: correct its Bits Stored."
            )
        high = _count(header, "HighBit")
        if high is None or not stored - 1 <= high < allocated:
            high = stored - 1
        return cls(
            rows, columns, samples, photometric, allocated, stored, high, _count(header, "PixelRepresentation") == 1
        )


def stored_values(
    dataset: Dataset, transfer_syntax: UID, pixel_format: PixelFormat, name: str
) -> NDArray[np.integer[Any]]:
    """Decode the one frame of an image.

    Parameters
    ----------
    dataset
        With Pixel Data.
    pixel_format
        Of the same dataset.
    name
        What an error calls the image.

    Returns
    -------
    ndarray
        Shape (rows, columns), or (rows, columns, 3) in RGB; ``uint8``, ``uint16``, ``int8`` or ``int16``, every value
        within Bits Stored.

    Raises
    ------
    MammogramError
        If the pixel data is cut short, contradicts its header, or has no decoder.
    """
    data: bytes = dataset.PixelData
    encapsulated = dataset["PixelData"].is_undefined_length
    if transfer_syntax in NATIVE:
        if encapsulated:
            raise MammogramError(
                f"{name} holds compressed pixel data under the uncompressed transfer syntax {transfer_syntax.name}: "
                f"{_AGAIN}, or correct its Transfer Syntax UID."
            )
        needed = _native_length(pixel_format)
        if len(data) < needed:
            raise MammogramError(f"{name} is cut short, with {len(data)} of {needed} bytes of pixel data: {_AGAIN}.")
        try:
            decoded = _decode(dataset, transfer_syntax, "")
        except (AttributeError, ValueError, RuntimeError) as error:
            raise MammogramError(f"{name} holds pixel data that does not fit its header: {_AGAIN}.") from error
        return _within_bits_stored(decoded, pixel_format, whole_words=True, lossy=False)

    decoder = _DECODERS.get(transfer_syntax)
    if decoder is None:
        raise MammogramError(
            f"{name} has the transfer syntax {_syntax_name(transfer_syntax)}, for which there is no decoder: "
            f"{_UNCOMPRESSED}."
        )
    frame = _only_frame(data, encapsulated, transfer_syntax, name)
    stream = _checked_stream(frame, decoder, transfer_syntax, pixel_format, name)
    try:
        if stream is not None and _needs_gdcm_itself(stream):
            decoded = _decode_with_gdcm(frame, stream, transfer_syntax)
        else:
            decoded = _decode(dataset, transfer_syntax, decoder.plugin)
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # pylibjpeg-rle panics with a BaseException
        raise MammogramError(
            f"{name} holds {_syntax_name(transfer_syntax)} pixel data that its decoder rejects: "
            f"{_AGAIN}, or {_UNCOMPRESSED}."
        ) from error
    whole_words = stream is None or stream.precision == pixel_format.bits_allocated
    decoded = _checked_shape(decoded, pixel_format, name)
    if stream is not None and not decoder.lossy:
        _check_unused_bits(decoded, pixel_format, whole_words, name)
    return _within_bits_stored(decoded, pixel_format, whole_words, decoder.lossy)


_GAINED_BY_PILLOW = {"L": 8, "I;16": 16}
"""Bits to which Pillow shifts the samples of a JPEG 2000 stream up, by its mode."""


def reduced_values(
    dataset: Dataset, transfer_syntax: UID, pixel_format: PixelFormat, name: str, smallest: int
) -> tuple[NDArray[np.uint16], int] | None:
    """The stored values at a lower resolution that a JPEG 2000 stream holds, which spares most of the decoding.

    A wavelet level less halves each side (ITU-T T.800 Annex F). Sample (row, column) is the mean around the stored
    pixel (row, column) times the factor.

    Parameters
    ----------
    smallest
        What the longer side must still have, in samples.

    Returns
    -------
    tuple of ndarray and int, or None
        ``uint16``, and the factor by which each side is smaller, a power of two; ``None`` where there is nothing to
        gain or anything is out of the ordinary: then `stored_values` says what, or reads it.

    Raises
    ------
    MammogramError
        If the stream contradicts its header.
    """
    decoder = _DECODERS.get(transfer_syntax)
    halvings = max(0, (max(pixel_format.rows, pixel_format.columns) // max(1, smallest)).bit_length() - 1)
    ordinary = pixel_format.samples == 1 and not pixel_format.signed and pixel_format.photometric != "PALETTE COLOR"
    if decoder is None or decoder.coding is not Coding.JPEG_2000 or not halvings or not ordinary:
        return None
    frame = _only_frame(dataset.PixelData, dataset["PixelData"].is_undefined_length, transfer_syntax, name)
    stream = _checked_stream(frame, decoder, transfer_syntax, pixel_format, name)
    if stream is None or stream.precision != pixel_format.bits_stored or not stream.is_plain:
        return None
    decoded = _decoded_by_pillow(frame, stream, halvings)
    shape = tuple(-(-side // (1 << halvings)) for side in (pixel_format.rows, pixel_format.columns))
    if decoded is None or decoded.shape != shape:
        return None
    return decoded, 1 << halvings


def _decoded_by_pillow(frame: bytes, stream: Codestream, halvings: int) -> NDArray[np.uint16] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size was checked
            with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as image:
                if not isinstance(image, Jpeg2KImageFile) or image.mode not in _GAINED_BY_PILLOW:
                    return None
                image.reduce = halvings
                image.load()
                gained = _GAINED_BY_PILLOW[image.mode] - stream.precision
                return np.asarray(np.asarray(image) >> gained, np.uint16) if gained >= 0 else None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:  # fewer levels than asked for, or whatever else: the decoder of the whole image will say
        return None


def _count(header: Dataset, keyword: str) -> int | None:
    value = number(header, keyword)
    return None if value is None else int(value)


def _required_count(header: Dataset, keyword: str, name: str) -> int:
    value = _count(header, keyword)
    if value is None or value < 1:
        raise MammogramError(f"{name} has no usable {keyword} attribute, so its pixels cannot be laid out: {_AGAIN}.")
    return value


def _syntax_name(transfer_syntax: UID) -> str:
    known = transfer_syntax.name
    return known if known == str(transfer_syntax) else f"{known} ({transfer_syntax})"


def _native_length(pixel_format: PixelFormat) -> int:
    if pixel_format.photometric == "YBR_FULL_422":  # two chroma samples for two pixels
        return pixel_format.frame_bytes // 3 * 2
    return pixel_format.frame_bytes


def _only_frame(data: bytes, encapsulated: bool, transfer_syntax: UID, name: str) -> bytes:
    if not encapsulated:
        raise MammogramError(
            f"{name} holds plain pixel data under the compressed transfer syntax {_syntax_name(transfer_syntax)}: "
            f"{_AGAIN}, or correct its Transfer Syntax UID."
        )
    try:
        return next(generate_frames(data, number_of_frames=1))
    except Exception as error:
        raise MammogramError(f"{name} holds damaged or cut compressed pixel data: {_AGAIN}.") from error


def _checked_stream(
    frame: bytes, decoder: _Decoder, transfer_syntax: UID, pixel_format: PixelFormat, name: str
) -> Codestream | None:
    """The codestream's header once it agrees with the object; RLE has none."""
    if decoder.coding is None:
        return None
    stream = parse_codestream(frame)
    if stream is None:
        raise MammogramError(f"{name} holds pixel data that is no {decoder.coding} stream: {_AGAIN}.")
    if stream.coding is not decoder.coding:
        raise MammogramError(
            f"{name} holds a {stream.coding} stream under the transfer syntax {_syntax_name(transfer_syntax)}: "
            f"{_AGAIN}, or correct its Transfer Syntax UID."
        )
    if (stream.rows, stream.columns, stream.components) != (
        pixel_format.rows,
        pixel_format.columns,
        pixel_format.samples,
    ):
        raise MammogramError(
            f"{name} holds a stream of {stream.rows} x {stream.columns} pixels with {stream.components} components, "
            f"its header says {pixel_format.rows} x {pixel_format.columns} with {pixel_format.samples}: {_AGAIN}."
        )
    if stream.precision > pixel_format.bits_allocated:
        raise MammogramError(
            f"{name} holds a stream of {stream.precision} bits where its header allocates "
            f"{pixel_format.bits_allocated}: {_AGAIN}."
        )
    if not stream.complete:
        raise MammogramError(f"{name} is cut short: its compressed pixel data has no end; {_AGAIN}.")
    return stream


def _decode(dataset: Dataset, transfer_syntax: UID, plugin: str) -> NDArray[np.integer[Any]]:
    # raw=False turns YBR to RGB; the unused bits are ours, because pydicom takes no notice of High Bit.
    decoded, _ = get_decoder(transfer_syntax).as_array(dataset, index=0, decoding_plugin=plugin, **_AS_STORED)
    # A big-endian file comes in its own byte order, and what follows looks at bits.
    return decoded.astype(decoded.dtype.newbyteorder("="), copy=False)


def _needs_gdcm_itself(stream: Codestream) -> bool:
    """Whether gdcm is asked directly, because pydicom's way to it does not do.

    12-bit JPEG Extended: pydicom keeps it from gdcm and nothing else in reach reads it. gdcm 3.2's pixels of the NEMA
    WG04 film MG1_JPLY agree with openjpeg's of the same film in MG1_J2KI to 0.3 % of the range on average, both having
    lost some to a ratio of 10:1. JPEG Lossless: told Bits Stored, as pydicom tells it, gdcm wipes the bits above, and
    with them a High Bit at the top of the word and the wild values that betray damaged data.
    """
    if stream.components != 1:
        return False
    return stream.coding is Coding.JPEG_LOSSLESS or (stream.coding is Coding.JPEG and stream.precision == 12)


def _decode_with_gdcm(frame: bytes, stream: Codestream, transfer_syntax: UID) -> NDArray[np.integer[Any]]:
    import gdcm  # type: ignore[import-untyped]

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((stream.columns, stream.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(transfer_syntax))))
    word = 8 if stream.precision <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(1, word, word, word - 1, 0))
    # gdcm hands over its bytes as a str with surrogates
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(buffer, f"<u{word // 8}").reshape(stream.rows, stream.columns)


def _checked_shape(decoded: NDArray[np.integer[Any]], pixel_format: PixelFormat, name: str) -> NDArray[np.integer[Any]]:
    shape: tuple[int, ...] = (pixel_format.rows, pixel_format.columns)
    if pixel_format.samples > 1:
        shape = (*shape, pixel_format.samples)
    if decoded.shape != shape or decoded.dtype.itemsize * 8 > pixel_format.bits_allocated:
        raise MammogramError(f"{name} decodes to {decoded.shape} instead of {shape} samples: {_AGAIN}.")
    return decoded


def _check_unused_bits(
    decoded: NDArray[np.integer[Any]], pixel_format: PixelFormat, whole_words: bool, name: str
) -> None:
    """Notice damage that a lossless decoder passed over: gdcm turns broken JPEG Lossless data into wild values."""
    if pixel_format.signed:
        return
    used = (pixel_format.levels - 1) << (pixel_format.high_bit + 1 - pixel_format.bits_stored if whole_words else 0)
    if int(np.bitwise_or.reduce(decoded, axis=None)) & ~used:
        raise MammogramError(
            f"{name} is damaged: its compressed pixel data holds values of more than {pixel_format.bits_stored} bits; "
            f"{_AGAIN}."
        )


def _within_bits_stored(
    decoded: NDArray[np.integer[Any]], pixel_format: PixelFormat, whole_words: bool, lossy: bool
) -> NDArray[np.integer[Any]]:
    """Keep the bits up to High Bit that are pixel, and extend the sign.

    The other bits of a whole word may hold overlays or anything (PS3.5 8.1.1). A lossy coder may overshoot the
    range instead, where taking bits would turn white into black.
    """
    width = decoded.dtype.itemsize * 8
    stored = min(pixel_format.bits_stored, width)
    if stored == width:
        return decoded
    if lossy and not pixel_format.signed:
        return np.asarray(np.minimum(decoded, decoded.dtype.type((1 << stored) - 1)))
    unsigned = decoded.view(f"u{decoded.dtype.itemsize}")
    if not pixel_format.signed and (not whole_words or pixel_format.high_bit == stored - 1):
        return np.asarray(unsigned & unsigned.dtype.type((1 << stored) - 1))
    # Shifting left and back right drops the bits above High Bit and, as the right shift of a signed word, extends the
    # sign.
    high_bit = pixel_format.high_bit if whole_words else stored - 1
    top = np.left_shift(unsigned, width - 1 - high_bit)
    if pixel_format.signed:
        top = top.view(f"i{decoded.dtype.itemsize}")
    return np.asarray(np.right_shift(top, width - stored))
