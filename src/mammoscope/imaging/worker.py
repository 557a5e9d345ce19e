"""The process that a `MammogramReader` decodes in, where a decoder may die alone.

It answers each `channel.Request` with a `Mammogram` or its header, or with the sentence of an error as a ``str``.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom import Dataset

from mammoscope.imaging.channel import Request
from mammoscope.imaging.dicom import read_dicom, read_header
from mammoscope.imaging.errors import MammogramError
from mammoscope.imaging.files import SNIFFED_BYTES, FileKind, sniff
from mammoscope.imaging.mammogram import Mammogram
from mammoscope.imaging.pictures import read_picture
from mammoscope.imaging.serving import serve

MAX_FILE_BYTES = 1 << 30
"""No file of one mammogram comes near it: an uncompressed one has 30 to 60 MB."""

_MAX_MEMORY = 4 << 30  # three times what the largest accepted image takes


def read_file(path: Path, name: str) -> Mammogram:
    """Read one mammogram in this very process.

    Raises
    ------
    MammogramError
        If it cannot be read, or is blank: "no finding" would be said of a breast that nobody saw.
    """
    with _openable(name):
        kind = _kind(path, name)
        if kind is FileKind.DICOM:
            return _not_blank(read_dicom(path, name))
        if kind is FileKind.PICTURE:
            return _not_blank(read_picture(path, name))
    if kind is FileKind.EMPTY:
        raise MammogramError(f"{name} is empty: copy or send it again from its source.")
    if kind is FileKind.ENCRYPTED:
        raise MammogramError(f"{name} is encrypted as a whole (CMS): decrypt it first.")
    if kind is FileKind.OTHER_PICTURE:
        raise MammogramError(f"{name} is a picture in a format that is not read: save it as PNG, JPEG, TIFF or PGM.")
    raise MammogramError(f"{name} is no image: give a DICOM file or a PNG, JPEG, TIFF or PGM picture.")


def _not_blank(mammogram: Mammogram) -> Mammogram:
    if mammogram.pixels.min() == mammogram.pixels.max():
        raise MammogramError(
            f"{mammogram.name} is blank, all its pixels show one grey value: send or export it again from its source."
        )
    return mammogram


def _header(path: Path, name: str, keywords: tuple[str, ...]) -> Dataset:
    with _openable(name):
        if _kind(path, name) is FileKind.DICOM:
            return read_header(path, name, keywords)
    raise MammogramError(f"{name} is no DICOM file.")


@contextlib.contextmanager
def _openable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MammogramError(
            f"{name} cannot be opened ({error.strerror}): check the path and its permissions."
        ) from error


def _kind(path: Path, name: str) -> FileKind:
    if path.is_dir():
        raise MammogramError(f"{name} is a folder: name the image files in it.")
    if not path.exists():
        raise MammogramError(f"{name} does not exist: check the path.")
    if not path.is_file():
        raise MammogramError(f"{name} is no regular file: give a DICOM file or a picture.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise MammogramError(f"{name} is larger than 1 GiB, which no single mammogram is: check the file.")
    with path.open("rb") as file:
        return sniff(file.read(SNIFFED_BYTES))


def main() -> None:
    """Answer requests until the standard input ends."""
    serve(_prepare)


def _prepare() -> tuple[None, Callable[[Request], Mammogram | Dataset | str]]:
    _limit_memory()
    return None, _answer


def _answer(request: Request) -> Mammogram | Dataset | str:
    try:
        if request.header:
            return _header(request.path, request.name, request.keywords)
        return read_file(request.path, request.name)
    except MammogramError as error:
        return str(error)
    except MemoryError:
        return f"{request.name} needs more memory than there is to read it: check the file at its source."
    except BaseException as error:  # a decoder's panic is no Exception
        return f"{request.name} cannot be read ({type(error).__name__}), it is probably damaged: copy or send it again."


def _limit_memory() -> None:
    """A small file that unpacks to more than any mammogram ends in a `MemoryError`, not in the machine's."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
