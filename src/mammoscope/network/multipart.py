"""Multipart bodies (RFC 2387) as files: each part goes to disk while it arrives."""

import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from mammoscope.network.acceptor import IncomingFile, discard
from mammoscope.network.errors import MultipartError, ObjectRefusedError

DICOM = "application/dicom"

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it warns of each damaged body, and so do we


@dataclass(frozen=True, slots=True)
class Part:
    """One part that arrived whole.

    Parameters
    ----------
    refusal
        Why the file holds nothing: it is too large, or the disk is full.
    head
        How an object that is too large began.
    """

    path: Path
    content_type: str
    refusal: ObjectRefusedError | None
    head: bytes = b""

    def discard(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def boundary_of(content_type: str) -> str | None:
    """Tell the boundary of a ``multipart/related`` body of DICOM objects, or ``None`` if it is no such thing."""
    kind, options = parse_options_header(content_type)
    part_type = options.get(b"type", DICOM.encode()).decode("latin-1").lower()
    boundary = options.get(b"boundary", b"").decode("latin-1")
    return boundary if kind.lower() == b"multipart/related" and part_type == DICOM and 0 < len(boundary) <= 70 else None


_LONGEST_PREAMBLE = 1 << 16


class _Framing:
    """Takes out what RFC 2046 section 5.1.1 lets stand about boundaries and the parser does not.

    That is a text before the first boundary, blanks between a boundary and its line's end, and a text after the last.
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._held = b"\r\n"  # the first boundary need not begin a new line
        self._passed = 0
        self._take = self._preamble

    def feed(self, data: bytes) -> bytes:
        """What of the body so far the parser shall see.

        Raises
        ------
        MultipartError
            If no boundary comes for long.
        """
        self._held += data
        seen = bytearray()
        while (found := self._take()) is not None:
            seen += found
        return bytes(seen)

    def rest(self) -> bytes:
        """What was held back when the body ended."""
        return self._held if self._take == self._part else b""

    def _preamble(self) -> bytes | None:
        place = self._held.find(self._delimiter)
        if place < 0:
            kept = len(self._delimiter) - 1
            self._passed += max(len(self._held) - kept, 0)
            self._held = self._held[-kept:]
            if self._passed > _LONGEST_PREAMBLE:
                raise MultipartError("the body is no multipart body with the boundary that its content type names")
            return None
        self._held = self._held[place + len(self._delimiter) :]
        self._take = self._boundary_end
        return self._delimiter[2:]

    def _boundary_end(self) -> bytes | None:
        if len(self._held) < 2:
            return None
        if self._held.startswith(b"--"):
            self._held, self._take = b"", self._epilogue
            return b"--\r\n"
        self._take = self._padding
        return b""

    def _padding(self) -> bytes | None:
        self._held = self._held.lstrip(b" \t")
        if not self._held:
            return None
        self._take = self._part
        return b""

    def _part(self) -> bytes | None:
        place = self._held.find(self._delimiter)
        if place < 0:
            kept = len(self._delimiter) - 1
            sure, self._held = self._held[:-kept], self._held[-kept:]
            return sure or None
        sure = self._held[:place] + self._delimiter
        self._held = self._held[place + len(self._delimiter) :]
        self._take = self._boundary_end
        return sure

    def _epilogue(self) -> bytes | None:
        self._held = b""
        return None


class PartFiles:
    """Takes a body piece by piece and gives its parts as files.

    Parameters
    ----------
    largest
        Bytes; of a larger part nothing is kept.
    back_pressure
        Raises `ObjectRefusedError` when a part that begins cannot be taken.
    """

    def __init__(self, boundary: str, folder: Path, largest: int, back_pressure: Callable[[], None]) -> None:
        self._folder = folder
        self._largest = largest
        self._back_pressure = back_pressure
        self._file: IncomingFile | None = None
        self._name = b""
        self._headers: dict[bytes, bytes] = {}
        self._whole: list[Part] = []
        self._ended = False
        self._framing = _Framing(boundary)
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[Part]:
        """Take a piece of the body; return the parts that it completes, which are the caller's to discard.

        Raises
        ------
        MultipartError
            If the body is not what its content type says.
        """
        try:
            self._parser.write(self._framing.feed(data))
        except MultipartParseError:
            raise MultipartError(
                "the body is no multipart body with the boundary that its content type names"
            ) from None
        whole, self._whole = self._whole, []
        return whole

    def finish(self) -> None:
        """Check that the body was whole.

        Raises
        ------
        MultipartError
            If it ends in the middle of a part.
        """
        with suppress(MultipartParseError):
            self._parser.write(self._framing.rest())
        if not self._ended:
            raise MultipartError("the body ends before its last boundary")

    def close(self) -> None:
        """Delete what arrived of a part that is not whole."""
        if self._file is not None:
            discard(self._file)
            self._file = None
        for part in self._whole:
            part.discard()

    def _begin(self) -> None:
        self._headers, self._name = {}, b""
        file = tempfile.NamedTemporaryFile(dir=self._folder, suffix=".dcm", delete=False)  # noqa: SIM115
        self._file = IncomingFile(file, self._largest)
        try:
            self._back_pressure()
        except ObjectRefusedError as refusal:
            self._file.refuse(refusal)

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end].lower()

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._name] = self._headers.get(self._name, b"") + data[start:end]

    def _end_header(self) -> None:
        self._name = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])

    def _end_part(self) -> None:
        assert self._file is not None
        self._file.close()
        kind, _ = parse_options_header(self._headers.get(b"content-type", DICOM.encode()))
        self._whole.append(Part(Path(self._file.name), kind.decode("latin-1"), self._file.refusal, self._file.head))
        self._file = None

    def _end(self) -> None:
        self._ended = True
