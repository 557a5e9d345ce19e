"""Files on the way in and out of a data set: sizes, safe replacement, hashes.

Hashes of a data set's files: of their bytes, and of the pixels in them.
"""

import hashlib
import json
import math
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

from mammoscope.cluster import Spread
from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import MammogramError, MammogramReader
from mammoscope.subprocesses import usable_cores

_CHUNK_BYTES = 1 << 20


def check_unpacked(path: Path) -> None:
    """Raise `DatasetError` where an archive was given for what is in it."""
    if path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        raise DatasetError(f"{path} is an archive: unpack it and give what is in it.")


def stored_size(path: Path) -> tuple[int, int] | None:
    """(rows, columns) from a file's header, pixels undecoded; ``None`` when it is no picture or DICOM file."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows), int(header.Columns)
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError):
        return None


_TURNED = {
    2: "mirrored left to right", 3: "turned by 180 degrees", 4: "mirrored top to bottom",
    5: "transposed", 6: "turned by 90 degrees", 7: "transposed the other way", 8: "turned by 270 degrees",
}  # fmt: skip
_ORIENTATION = 0x0112
"""Of EXIF 2.32, table 4; the same tag as in TIFF."""


def check_upright(path: Path, where: str) -> None:
    """Refuse a picture that is stored turned and shown upright.

    Programs in which people draw boxes turn it as its EXIF orientation says, and its pixels stay as they are stored:
    boxes would lie in another frame than the pixels.

    Raises
    ------
    DatasetError
        If its EXIF orientation is 2 to 8.
    """
    try:
        with Image.open(path) as picture:
            orientation = picture.getexif().get(_ORIENTATION, 1)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return
    if orientation in _TURNED:
        raise DatasetError(
            f"{where}: {path} has the EXIF orientation {orientation}: it is shown {_TURNED[orientation]}, and boxes "
            "drawn on it belong to what was shown, not to the stored pixels. Write its pixels upright and without "
            "that tag (for example with 'mogrify -auto-orient' of ImageMagick) and import again."
        )


def sop_instance_uid(path: Path) -> str | None:
    """The SOP Instance UID of a DICOM file; ``None`` when it is none."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        return str(header.SOPInstanceUID)
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError):
        return None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    DatasetError
        If the file is missing, unreadable or not JSON; NaN and Infinity, which Python writes, are none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not a JSON file: it is not UTF-8 text.") from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path} is not valid JSON: {error.msg} in line {error.lineno}.") from None
    except ValueError as error:  # a number that is none, or has thousands of digits
        raise DatasetError(f"{path} is not valid JSON: {error}.") from None
    except RecursionError:
        raise DatasetError(f"{path} is not a COCO file: it is nested too deeply.") from None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {number[:20]} in it is not finite")
    return value


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is either the old one or the whole new one, whenever the power fails."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


Progress = Callable[[int, int], None]
BATCH = 32
"""Files that another machine is given at once."""


class Hashes(StrEnum):
    """Which hashes are made."""

    NONE = "none"
    FILES = "files"
    PIXELS = "pixels"
    """Of files and of pixels."""


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Size, time and hashes of one file; ``None`` for a hash that was not made, or of pixels that cannot be read."""

    file_bytes: int
    file_mtime_ns: int
    file_sha256: str | None = None
    pixel_sha256: str | None = None


def stat_files(paths: Sequence[Path], known: Mapping[str, FileHashes], folder: Path) -> list[FileHashes]:
    """Sizes and times of files, with the hashes that are known.

    Parameters
    ----------
    known
        By name relative to ``folder``; it holds for files of that size and time.

    Raises
    ------
    DatasetError
        If a file cannot be read.
    """
    return [_facts(path, known.get(path.relative_to(folder).as_posix())) for path in paths]


def hash_files(
    paths: Sequence[Path],
    found: list[FileHashes],
    hashes: Hashes,
    processes: int | None = None,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> None:
    """Make the hashes asked for where they are missing.

    Parameters
    ----------
    found
        Of the same files, from `stat_files`; what is made is put in at once and is there whatever ends the rest.
    spread
        Other machines that make them; ``None`` for this one.

    Raises
    ------
    DatasetError
        If a file cannot be read.
    """
    if hashes is Hashes.NONE:
        return
    todo = [n for n, facts in enumerate(found) if _lacks(facts, hashes)]
    if spread is not None:
        _hash_elsewhere(paths, found, todo, hashes, spread, progress)
        return
    workers = processes or usable_cores()
    with MammogramReader(workers) as reader, ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda n: _hashed(paths[n], found[n], hashes, reader), todo)
        for count, (position, facts) in enumerate(zip(todo, done, strict=True), start=1):
            found[position] = facts
            if progress:
                progress(count, len(todo))


def _hash_elsewhere(
    paths: Sequence[Path],
    found: list[FileHashes],
    todo: Sequence[int],
    hashes: Hashes,
    spread: Spread,
    progress: Progress | None,
) -> None:
    batches = [todo[n : n + BATCH] for n in range(0, len(todo), BATCH)]
    work = partial(_hash_batch, hashes=hashes)
    results = spread(work, [[(paths[n].absolute(), found[n]) for n in batch] for batch in batches])
    done = 0
    for batch, hashed in zip(batches, results, strict=True):
        for position, facts in zip(batch, hashed, strict=True):
            found[position] = facts
        done += len(batch)
        if progress:
            progress(done, len(todo))


def _hash_batch(files: Sequence[tuple[Path, FileHashes]], hashes: Hashes) -> list[FileHashes]:
    with MammogramReader() as reader:
        return [_hashed(path, facts, hashes, reader) for path, facts in files]


def pixel_sha256(path: Path, reader: MammogramReader) -> str | None:
    """SHA-256 over the size and the pixels of a mammogram as read; ``None`` when it cannot be read."""
    try:
        pixels = reader.read(path).pixels
    except MammogramError:
        return None
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.astype("<u2").tobytes()).hexdigest()


def _facts(path: Path, known: FileHashes | None) -> FileHashes:
    try:
        facts = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    same = known is not None and (known.file_bytes, known.file_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    return known if known is not None and same else FileHashes(facts.st_size, facts.st_mtime_ns)


def _lacks(facts: FileHashes, hashes: Hashes) -> bool:
    return facts.file_sha256 is None or (hashes is Hashes.PIXELS and facts.pixel_sha256 is None)


def _hashed(path: Path, facts: FileHashes, hashes: Hashes, reader: MammogramReader) -> FileHashes:
    try:
        of_file = facts.file_sha256 or sha256_of_file(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    of_pixels = facts.pixel_sha256 or (pixel_sha256(path, reader) if hashes is Hashes.PIXELS else None)
    return replace(facts, file_sha256=of_file, pixel_sha256=of_pixels)
