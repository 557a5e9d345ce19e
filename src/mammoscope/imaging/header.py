"""A few attributes of a DICOM file, found in bounded memory: what a process may do that an untrusted file must not end.

Elements are stepped over, not read (PS3.5 section 7), and a sequence takes no memory, however deep it is nested; what
is compressed (Deflated Explicit VR Little Endian, PS3.5 A.5) is inflated piece by piece. All else about a file is for
`MammogramReader`, which reads in a process of its own.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammoscope.imaging.mammogram import MammogramError
from mammoscope.reasons import ReasonCode

MOST_ELEMENTS = 200_000
"""Elements stepped over; a mammogram has some hundred, an enhanced multi-frame object some ten thousand."""
MOST_INFLATED_BYTES = 64 << 20
"""Bytes of a compressed data set that are inflated to find its attributes."""
MOST_DIGESTED_BYTES = 1 << 30
"""Bytes of inflated pixel data that a digest is made of; what follows does not count."""
MOST_INFLATED_FILE = 600 << 20
"""Bytes that a whole compressed file may inflate to: the largest image that is read has 256 MiB of pixels."""
MOST_META_ELEMENTS = 100
LONGEST_VALUE = 1024
"""Bytes of a value that are read."""

_PIECE = 1 << 16
_UNDEFINED = 0xFFFFFFFF
_TRANSFER_SYNTAX = 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_LONG_LENGTH = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_IN_WORDS = frozenset(("Rows", "Columns"))


@dataclass(frozen=True, slots=True)
class FoundHeader:
    """What was found in a file.

    Parameters
    ----------
    transfer_syntax
        Transfer Syntax UID of its File Meta Information; empty where it has none.
    values
        Of each attribute found, by keyword, as text without padding; several parted by backslashes.
    """

    transfer_syntax: str
    values: dict[str, str]

    def get(self, keyword: str) -> str:
        """The first value of an attribute; empty where the file does not have it."""
        return self.all(keyword)[0]

    def all(self, keyword: str) -> list[str]:
        """Each value of an attribute; one that is empty where the file does not have it."""
        return [value.strip("\0 ") for value in self.values.get(keyword, "").split("\\")]


def find_attributes(path: Path, keywords: Collection[str], *, prefixed: bool = False) -> FoundHeader:
    """Find attributes of the data set itself, not of its sequences; before its pixel data, each where it comes first.

    Parameters
    ----------
    path
        A DICOM file, with or without its preamble and File Meta Information.
    keywords
        Of text attributes, and Rows and Columns.
    prefixed
        Whether only a file with its preamble and prefix (PS3.10 section 7.1) will do.

    Raises
    ------
    OSError
        If the file cannot be read.
    MammogramError
        If it is damaged, or has more elements than any image, or lacks a prefix that it must have.
    """
    with path.open("rb") as file:
        if prefixed and file.read(132)[128:] != b"DICM":
            raise MammogramError("the file is no DICOM file: send it again from its source.", ReasonCode.NOT_AN_IMAGE)
        scan = _Scan(file)
        return FoundHeader(scan.transfer_syntax, scan.find(keywords))


def pixel_digest(path: Path) -> str:
    """The transfer syntax of a DICOM file and a SHA-256 of its size, its pixel data and all that follows it.

    Two digests of one image in different transfer syntaxes differ.

    Raises
    ------
    OSError
        If the file cannot be read.
    MammogramError
        If it is damaged, or has more elements than any image.
    """
    with path.open("rb") as file:
        scan = _Scan(file)
        found = scan.find(("Rows", "Columns"), whole=True)
        digest = hashlib.sha256()
        for keyword in ("Rows", "Columns"):
            digest.update(f"{found.get(keyword)} ".encode())
        for piece in scan.rest():
            digest.update(piece)
    # Digests of an earlier version held nothing of deflated pixels: the two must not be compared.
    inflated = "+inflated" if scan.transfer_syntax == DeflatedExplicitVRLittleEndian else ""
    return f"{scan.transfer_syntax}{inflated} {digest.hexdigest()}"


def header_length(path: Path) -> int | None:
    """How many bytes of a DICOM file stand before its pixel data; ``None`` if its data set is compressed as a whole.

    Raises
    ------
    OSError
        If the file cannot be read.
    MammogramError
        If it is damaged, or has more elements than any image.
    """
    with path.open("rb") as file:
        scan = _Scan(file)
        if scan.transfer_syntax == DeflatedExplicitVRLittleEndian:
            return None
        scan.find((), whole=True)
        return file.tell() - len(scan.pending)


def is_deflated(path: Path) -> bool:
    """Whether a DICOM file says that its data set is compressed as a whole.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return _is_deflated(file)


def inflated(data: bytes, name: str) -> bytes:
    """The bytes of a DICOM file as they would be under Explicit VR Little Endian, if its data set is compressed.

    Raises
    ------
    MammogramError
        If it inflates to more than `MOST_INFLATED_FILE` bytes.
    """
    file = BytesIO(data)
    if not _is_deflated(file):
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = file.tell()
    try:
        body = inflater.decompress(memoryview(data)[start:], MOST_INFLATED_FILE)
    except zlib.error as error:
        raise MammogramError(
            f"{name} is a cut or damaged DICOM file: copy or send it again from its source.", ReasonCode.DAMAGED
        ) from error
    if inflater.unconsumed_tail:
        raise MammogramError(
            f"{name} inflates to more than any mammogram has: check the file at its source.", ReasonCode.SIZE
        )
    deflated, plain = str(DeflatedExplicitVRLittleEndian).encode(), str(ExplicitVRLittleEndian).encode()
    return data[:start].replace(deflated, plain.ljust(len(deflated), b"\0")) + body


def _is_deflated(file: BinaryIO) -> bool:
    """The same of an open file, which stands at the beginning of its data set then."""
    return _transfer_syntax(file) == DeflatedExplicitVRLittleEndian


def _transfer_syntax(file: BinaryIO) -> str:
    """What File Meta Information says, empty where there is none; the file stands behind it then.

    Its group length is not believed.
    """
    file.seek(128)
    file.seek(132 if file.read(4) == b"DICM" else 0)
    syntax = ""
    for _ in range(MOST_META_ELEMENTS):
        start = file.read(8)
        if start[:2] != b"\x02\0" or len(start) < 8:
            file.seek(-len(start), 1)
            break
        tag = 0x00020000 | int.from_bytes(start[2:4], "little")
        if start[4:6] in _LONG_LENGTH:
            length = int.from_bytes(file.read(4), "little")
        else:
            length = int.from_bytes(start[6:8] if start[4:6].isalpha() else start[4:8], "little")
        if tag == _TRANSFER_SYNTAX and length <= LONGEST_VALUE:
            syntax = file.read(length).decode("ascii", "replace").strip("\0 ")
        else:
            file.seek(length, 1)
    return syntax


class _Source(Protocol):
    """Bytes in order, each asked for once."""

    def read(self, size: int) -> bytes: ...

    def skip(self, size: int) -> None: ...

    def rest(self) -> Iterator[bytes]: ...


class _Plain:
    """The bytes of a file as they are; skipping costs nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        self._file.seek(size, 1)

    def rest(self) -> Iterator[bytes]:
        while piece := self._file.read(1 << 20):
            yield piece


class _Inflated:
    """The bytes of a compressed data set, a piece at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._piece = b""
        self._left = MOST_INFLATED_BYTES

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0 and self._fill():
            parts.append(self._piece[:size])
            self._piece = self._piece[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def skip(self, size: int) -> None:
        while size > 0 and self._fill():
            step = min(size, len(self._piece))
            self._piece = self._piece[step:]
            size -= step

    def rest(self) -> Iterator[bytes]:
        self._left = MOST_DIGESTED_BYTES
        with suppress(MammogramError):
            while self._fill():
                yield self._piece
                self._piece = b""

    def _fill(self) -> bool:
        while not self._piece:
            if self._inflater.eof:
                return False
            data = self._inflater.unconsumed_tail or self._file.read(_PIECE)
            self._piece = self._inflater.decompress(data, _PIECE)
            if not data and not self._piece:
                return False
            self._left -= len(self._piece)
            if self._left < 0:
                raise MammogramError(
                    "the file inflates to more than any header has: send it again from its source.", ReasonCode.SIZE
                )
        return True


class _Scan:
    """One pass over the elements of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._steps = MOST_ELEMENTS
        self.transfer_syntax = _transfer_syntax(file)
        start = file.tell()
        self._source: _Source = _Plain(file)
        if self.transfer_syntax == DeflatedExplicitVRLittleEndian:
            self._source = _Inflated(file)
        self._little = self.transfer_syntax != ExplicitVRBigEndian
        self._implicit = self._is_implicit(file.read(6))
        file.seek(start)
        self.pending = b""

    def find(self, keywords: Collection[str], *, whole: bool = False) -> dict[str, str]:
        """The values of attributes; with ``whole``, the next bytes are those of the pixel data element then."""
        wanted = {tag_for_keyword(keyword): keyword for keyword in keywords}
        found: dict[str, str] = {}
        try:
            while whole or len(found) < len(wanted):
                element = self._element()
                if element is None or element[0] in _PIXEL_DATA:
                    break
                tag, length = element
                keyword = wanted.get(tag)
                if length == _UNDEFINED:
                    self._skip_sequence()
                elif keyword is None or keyword in found:
                    self._source.skip(length)
                else:
                    found[keyword] = self._value(keyword, length)
        except (zlib.error, struct.error) as error:
            raise MammogramError("the file is damaged: send it again from its source.", ReasonCode.DAMAGED) from error
        return found

    def rest(self) -> Iterator[bytes]:
        """The bytes from the pixel data element on, after `find` of the ``whole`` header."""
        yield self.pending
        with suppress(zlib.error):
            yield from self._source.rest()

    def _is_implicit(self, start: bytes) -> bool:
        """What the first element looks like is believed before the transfer syntax, as pydicom does."""
        if self.transfer_syntax == DeflatedExplicitVRLittleEndian:
            return False
        if len(start) == 6 and start[4:6].isalpha() and start[4:6].isupper():
            if not self.transfer_syntax and start[0] == 0:
                self._little = False
            return False
        return self._little or self.transfer_syntax == ImplicitVRLittleEndian

    def _element(self) -> tuple[int, int] | None:
        """Tag and length of the next element; ``None`` at the end of the file."""
        self._step()
        self.pending = b""
        start = self._source.read(8)
        if len(start) < 8:
            return None
        self.pending = start
        order = "<" if self._little else ">"
        group, element = struct.unpack_from(f"{order}HH", start)
        tag = group << 16 | element
        # Some write implicit elements into explicit sequences, and within VR UN all is implicit (PS3.5 6.2.2 note 4).
        if self._implicit or not b"AA" <= start[4:6] <= b"ZZ":
            (length,) = struct.unpack_from(f"{order}I", start, 4)
        elif start[4:6] in _LONG_LENGTH:
            more = self._source.read(4)
            self.pending += more
            (length,) = struct.unpack(f"{order}I", more)
        else:
            (length,) = struct.unpack_from(f"{order}H", start, 6)
        return tag, length

    def _value(self, keyword: str, length: int) -> str:
        raw = self._source.read(min(length, LONGEST_VALUE))
        self._source.skip(length - len(raw))
        if keyword in _IN_WORDS and len(raw) == 2:
            return str(int.from_bytes(raw, "little" if self._little else "big"))
        return raw.decode("latin-1").strip("\0 ")

    def _skip_sequence(self) -> None:
        """Step over the items of an element of undefined length, which has just begun."""
        open_items = 1
        while open_items:
            element = self._element()
            if element is None:
                return
            tag, length = element
            if tag in (_ITEM_END, _SEQUENCE_END):
                open_items -= 1
            elif length == _UNDEFINED:
                open_items += 1
            else:
                self._source.skip(length)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise MammogramError(
                "the file has more elements than any image: send it again from its source.", ReasonCode.HEADER
            )
