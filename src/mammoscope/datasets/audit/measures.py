"""What the pixels of one file say, measured once and small enough to keep of every image.

The pixel pass: every file measured once, on all cores, and what was measured kept for the next time.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cluster import Spread
from mammoscope.datasets.audit.orientation import chest_wall, glyphs, muscle
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import sha256_of_file
from mammoscope.imaging import WHITE, Mammogram, MammogramError, MammogramReader, find_breast_region
from mammoscope.subprocesses import usable_cores

VERSION = 2
"""Of the way they are measured; others are measured again."""

THUMBNAIL = 64
"""Rows and columns of the thumbnail, into which the whole image is squeezed."""

MASK = (256, 160)
"""Rows and columns of the breast mask, over the whole image."""

_BLANK = 0.02
_NEGATIVE_BRIGHT, _NEGATIVE_DARK = 0.4, 0.05

_RING = (0.08, 0.12)  # far enough in to leave film edges aside


@dataclass(frozen=True, slots=True)
class Measures:
    """What the pixels of a file say.

    Parameters
    ----------
    unreadable
        Why they cannot be read, in a sentence; everything else is then empty.
    file_sha256, pixel_sha256
        Of the bytes; of size and pixels as displayed.
    bits
        Stored bits a pixel, as the file says.
    levels
        How many different grey levels there are.
    lowest, highest
        Grey levels as shares of white.
    white
        Share of the breast that is white.
    ring_bright, ring_dark
        Share of a ring near the image's edge brighter than 0.75 and darker than 0.25 of white.
    content
        (x0, y0, x1, y1) as shares of the sides: what is left when lines of one level are cut off.
    photometric, orientation, mirrored
        DICOM's Photometric Interpretation, Patient Orientation, and whether Field of View Horizontal Flip is YES.
    spacing_mm, square_pixels
        Distance between pixel centres, where the same both ways; whether it is (``None`` where not stated).
    breast
        Share of the image that is breast; 1 where none was found.
    mask, thumbnail
        Deflated, in base 64; read with `breast_mask` and `picture`.
    glyphs
        (x0, y0, x1, y1) as shares of the sides: groups of bright small things outside the breast, as text is.
    chest
        The side that the chest wall is on, ``left`` or ``right``, where that is sure.
    muscle
        Where the pectoral muscle's triangle is, ``top`` or ``bottom``, where that is sure.
    """

    unreadable: str | None = None
    file_sha256: str | None = None
    pixel_sha256: str | None = None
    rows: int = 0
    columns: int = 0
    bits: int | None = None
    levels: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    white: float = 0.0
    ring_bright: float = 0.0
    ring_dark: float = 0.0
    content: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    photometric: str | None = None
    orientation: str | None = None
    mirrored: bool = False
    spacing_mm: float | None = None
    square_pixels: bool | None = None
    breast: float = 1.0
    mask: str = ""
    thumbnail: str = ""
    glyphs: tuple[tuple[float, float, float, float], ...] = ()
    chest: str | None = None
    muscle: str | None = None

    @property
    def blank(self) -> bool:
        """Whether the grey levels span so little that there is nothing to see."""
        return self.highest - self.lowest < _BLANK

    @property
    def negative(self) -> bool:
        """Whether the background is bright, as in a negative."""
        return not self.blank and self.ring_bright > _NEGATIVE_BRIGHT and self.ring_dark < _NEGATIVE_DARK

    @property
    def breast_mask(self) -> NDArray[np.bool_]:
        """Shape `MASK`."""
        bits = np.frombuffer(zlib.decompress(base64.b64decode(self.mask)), np.uint8)
        return np.unpackbits(bits).astype(bool).reshape(MASK)

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The thumbnail, shape (`THUMBNAIL`, `THUMBNAIL`)."""
        return np.frombuffer(zlib.decompress(base64.b64decode(self.thumbnail)), np.uint8).reshape(THUMBNAIL, THUMBNAIL)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Measures from what `to_json` made.

        Raises
        ------
        TypeError, KeyError
            If it is something else.
        """
        content, found = tuple(data["content"]), tuple(tuple(glyph) for glyph in data["glyphs"])
        return cls(**{**data, "content": content, "glyphs": found})


def measure(path: Path, reader: MammogramReader, name: str | None = None) -> Measures:
    """Measure one file; one that cannot be read becomes measures that say so."""
    try:
        sha256 = sha256_of_file(path)
    except FileNotFoundError:
        return Measures(f"{name or path.name} is not there.")
    except OSError as error:
        return Measures(f"{name or path.name} cannot be read: {error.strerror}.")
    try:
        mammogram = reader.read(path, name)
    except MammogramError as error:
        return Measures(str(error), sha256)
    return measure_pixels(mammogram, sha256)


def measure_pixels(mammogram: Mammogram, file_sha256: str | None = None) -> Measures:
    """Measure a mammogram that has been read."""
    pixels = mammogram.pixels
    rows, columns = pixels.shape
    counts = np.bincount(pixels.ravel(), minlength=WHITE + 1)
    present = np.flatnonzero(counts)
    mask = find_breast_region(pixels).mask
    small = cv2.resize(pixels, MASK[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(WHITE)
    thumbnail = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    ring = _ring(small)
    header, spacing = mammogram.header, mammogram.spacing
    square = None if spacing is None else bool(abs(spacing.row_mm / spacing.column_mm - 1) < 0.01)
    chest = chest_wall(mask)
    return Measures(
        file_sha256=file_sha256,
        pixel_sha256=hashlib.sha256(f"{pixels.shape}".encode() + pixels.astype("<u2").tobytes()).hexdigest(),
        rows=rows,
        columns=columns,
        bits=mammogram.acquisition.bits_stored,
        levels=len(present),
        lowest=round(float(present[0]) / WHITE, 4),
        highest=round(float(present[-1]) / WHITE, 4),
        white=round(float((small[mask] > 0.995).mean()), 4) if mask.any() else 0.0,
        ring_bright=round(float((ring > 0.75).mean()), 4),
        ring_dark=round(float((ring < 0.25).mean()), 4),
        content=_content(small),
        photometric=_said(header, "PhotometricInterpretation"),
        orientation=_said(header, "PatientOrientation"),
        mirrored=_said(header, "FieldOfViewHorizontalFlip") == "YES",
        spacing_mm=spacing.row_mm if spacing is not None and square else None,
        square_pixels=square,
        breast=round(float(mask.mean()), 4),
        mask=_packed(np.packbits(mask)),
        thumbnail=_packed((thumbnail // 256).astype(np.uint8)),
        glyphs=glyphs(pixels, mask),
        chest=chest,
        muscle=muscle(small, mask, chest),
    )


def _packed(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


def _ring(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels between `_RING` shares of the sides from the image's edge."""
    rows, columns = small.shape
    y, x = np.minimum(np.arange(rows), np.arange(rows)[::-1]), np.minimum(np.arange(columns), np.arange(columns)[::-1])
    depth = np.minimum(y[:, None] / rows, x[None, :] / columns)
    return np.asarray(small[(depth >= _RING[0]) & (depth <= _RING[1])])


def _content(small: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The part left when lines of one level are cut off at the edges."""
    edges = []
    for lines in (small, small.T):
        varied = np.flatnonzero(np.ptp(lines, axis=1) > 0.02)
        edges.append((varied[0] / len(lines), (varied[-1] + 1) / len(lines)) if len(varied) else (0.0, 1.0))
    (y0, y1), (x0, x1) = edges
    return round(float(x0), 4), round(float(y0), 4), round(float(x1), 4), round(float(y1), 4)


def _said(header: Any, keyword: str) -> str | None:
    value = header.get(keyword) if header is not None else None
    if value is None or value == "":
        return None
    return str(value) if isinstance(value, str) else "\\".join(str(part) for part in value)


CACHE = ".audit"
"""The folder within a data set's folder that holds what was measured; it may be removed at any time."""

_FILE = "measures.jsonl"
BATCH = 32
"""Files that another machine is given at once."""

_AHEAD = 4  # files asked for per process: enough to keep all busy, few enough to hold

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file to measure: its image's id and its name within ``images/``."""

    image_id: int
    name: str
    path: Path


def measure_files(
    folder: Path,
    files: Sequence[ImageFile],
    *,
    resume: bool = False,
    jobs: int | None = None,
    reader: MammogramReader | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> dict[int, Measures]:
    """Measures of every file, by image id.

    What is measured is written at once, so that a pass that was ended resumes where it stood.

    Parameters
    ----------
    resume
        Believe what an earlier pass measured of files with the same size and time, or the same SHA-256.
    jobs
        How many processes decode; all cores by default.
    reader
        Decodes instead of a reader of its own; it stays open.
    spread
        Other machines that measure; ``None`` for this one.

    Raises
    ------
    DatasetError
        If what is measured cannot be kept.
    """
    known = _read(folder / CACHE / _FILE) if resume else {}
    found: dict[int, Measures] = {}
    todo: list[ImageFile] = []
    for file in files:
        kept = _kept(file, known)
        if kept is None:
            todo.append(file)
        else:
            found[file.image_id] = kept
    if progress:
        progress(len(found), len(files))
    try:
        (folder / CACHE).mkdir(exist_ok=True)
        with (folder / CACHE / _FILE).open("ab" if resume else "wb") as cache:
            if cache.tell():
                cache.write(b"\n")  # ends a line that a pass which was killed left unfinished
            done = _measured_here(todo, reader, jobs) if spread is None else _measured_elsewhere(todo, spread)
            for file, facts, measures in done:
                found[file.image_id] = measures
                line = {"version": VERSION, "name": file.name, "file": facts, "measures": measures.to_json()}
                cache.write(json.dumps(line).encode() + b"\n")
                cache.flush()
                if progress:
                    progress(len(found), len(files))
    except OSError as error:
        raise DatasetError(f"{folder / CACHE} cannot be written: {error.strerror or error}.") from None
    return found


_Stamp = tuple[int, int] | None
_Done = tuple[ImageFile, _Stamp, Measures]


def _measured_here(todo: Sequence[ImageFile], reader: MammogramReader | None, jobs: int | None) -> Iterator[_Done]:
    """(file, its size and time, its measures) as they are done, never more than a few of each process held."""
    workers = jobs or usable_cores()
    waiting: dict[Future[Measures], tuple[ImageFile, _Stamp]] = {}
    upcoming = iter(todo)
    with (
        MammogramReader(workers) if reader is None else nullcontext(reader) as decoder,
        ThreadPoolExecutor(workers) as pool,
    ):
        while True:
            while len(waiting) < workers * _AHEAD and (file := next(upcoming, None)) is not None:
                waiting[pool.submit(measure, file.path, decoder, file.name)] = (file, _stamp(file.path))
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                file, stamp = waiting.pop(future)
                yield file, stamp, future.result()


def _measured_elsewhere(todo: Sequence[ImageFile], spread: Spread) -> Iterator[_Done]:
    """The same by other machines, in the order of the files."""
    batches = [[(file, _stamp(file.path)) for file in todo[n : n + BATCH]] for n in range(0, len(todo), BATCH)]
    results = spread(_measure_batch, [[(file.path.absolute(), file.name) for file, _ in batch] for batch in batches])
    for batch, measured in zip(batches, results, strict=True):
        for (file, stamp), measures in zip(batch, measured, strict=True):
            yield file, stamp, measures


def _measure_batch(files: Sequence[tuple[Path, str]]) -> list[Measures]:
    with MammogramReader() as reader:
        return [measure(path, reader, name) for path, name in files]


def _stamp(path: Path) -> _Stamp:
    """Size and time of a file."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp: tuple[int, int]
    measures: Measures


def _kept(file: ImageFile, known: dict[str, _Kept]) -> Measures | None:
    kept, stamp = known.get(file.name), _stamp(file.path)
    if kept is None or stamp is None or kept.measures.unreadable is not None:  # a decoder may have been short of memory
        return None
    if kept.stamp == stamp:
        return kept.measures
    same = kept.stamp[0] == stamp[0] and kept.measures.file_sha256 == sha256_of_file(file.path)
    return kept.measures if same else None


def _read(path: Path) -> dict[str, _Kept]:
    """What earlier passes measured, by name; lines of other versions, or cut off, count for nothing."""
    known: dict[str, _Kept] = {}
    try:
        with path.open("rb") as lines:
            for line in lines:
                entry = _entry(line)
                if entry is not None:
                    known[entry[0]] = entry[1]
    except FileNotFoundError:
        pass
    return known


def _entry(line: bytes) -> tuple[str, _Kept] | None:
    try:
        entry = json.loads(line)
        if entry["version"] != VERSION:
            return None
        size, mtime = entry["file"]
        return str(entry["name"]), _Kept((int(size), int(mtime)), Measures.from_json(entry["measures"]))
    except (ValueError, TypeError, KeyError):
        return None
