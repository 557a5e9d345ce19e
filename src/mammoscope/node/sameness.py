"""Telling a resend of an image from another image under the same SOP Instance UID."""

import hashlib
from pathlib import Path

from pydicom import dcmread

_CHUNK = 1 << 20


def pixel_digest(path: Path) -> str:
    """The transfer syntax of a DICOM file and a SHA-256 of its pixel data and all that follows it.

    Raises
    ------
    OSError
        If the file cannot be read.
    Exception
        Whatever a damaged header leads to.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        for keyword in ("Rows", "Columns"):
            digest.update(f"{header.get(keyword)} ".encode())
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return f"{header.file_meta.TransferSyntaxUID} {digest.hexdigest()}"


def differ(digest: str, other: str) -> bool:
    """Whether two digests show that the pixels differ.

    Those of files in different transfer syntaxes show nothing: a PACS may have compressed what it sends again.
    """
    syntax, _, _ = digest.partition(" ")
    return other.startswith(f"{syntax} ") and digest != other
