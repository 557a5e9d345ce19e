"""Files on the way in and out of a data set: sizes, safe replacement, hashes."""

import hashlib
import json
import math
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

from mammoscope.datasets.errors import DatasetError

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
