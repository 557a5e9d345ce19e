"""What may hide in pixel data beside the picture: comments of codestreams, overlays in unused bits, trailing bytes."""

import struct
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

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
