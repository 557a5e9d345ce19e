"""What the first bytes of a compressed frame say about it, to catch a decoder that is about to be wrong.

Only markers are read: JPEG and JPEG-LS (ITU-T T.81 Annex B, T.87 Annex C) and JPEG 2000 (ITU-T T.800 Annex A).
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

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
    precision = (frame[start + 42] & 0x7F) + 1
    return Codestream(Coding.JPEG_2000, y1 - y0, x1 - x0, components, precision, _is_complete(frame))


def _is_complete(frame: bytes) -> bool:
    return frame[-64:].rstrip(b"\0").endswith(_END)
