"""Reading mammograms in processes of their own, so that no file can hurt the caller.

The process that a `MammogramReader` decodes in, where a decoder may die alone.

It answers each `channel.Request` with a `Mammogram` or its header, or with the sentence of an error as a ``str``.
"""

import atexit
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import Dataset

from mammoscope.imaging.dicom import read_dicom, read_header
from mammoscope.imaging.files import SNIFFED_BYTES, FileKind, sniff
from mammoscope.imaging.mammogram import Mammogram, MammogramError
from mammoscope.imaging.raster import read_picture
from mammoscope.subprocesses.pool import Child, ChildDiedError, ChildHungError, ChildPool, ChildStartError
from mammoscope.subprocesses.protocol import Request, serve

DECODER_SECONDS = 60.0
"""How long the decoding of one mammogram may take; the slowest real ones take two seconds."""


class MammogramReader:
    """Reads mammograms in child processes, which it keeps for the next one and replaces when they die.

    Whole files are read in the child: parsing, decoding and display, compressed or not, DICOM and pictures alike. That
    way there is one path for every file, nothing that a file does reaches the caller, and only the finished pixels
    cross the pipe.

    Safe to use from several threads; after a fork each process gets children of its own.

    Parameters
    ----------
    workers
        How many mammograms are read at once when several threads ask. Each child starts when it is first needed.
    timeout
        Seconds after which a decoder counts as hanging and is ended.

    Examples
    --------
    >>> with MammogramReader() as reader:  # doctest: +SKIP
    ...     mammogram = reader.read(Path("L_CC.dcm"))
    """

    def __init__(self, workers: int = 1, *, timeout: float = DECODER_SECONDS) -> None:
        if workers < 1:
            raise ValueError(f"a reader needs at least one worker, not {workers}")
        if timeout <= 0:
            raise ValueError(f"the time-out must be positive, not {timeout}")
        self._timeout = timeout
        self._pool = ChildPool(_decoder, workers)

    def read(self, path: Path | str, name: str | None = None) -> Mammogram:
        """Read one mammogram.

        Parameters
        ----------
        path
            A DICOM file or a PNG, JPEG, TIFF or PGM picture, told apart by content.
        name
            What messages call it; the file's name by default.

        Raises
        ------
        MammogramError
            If it cannot be read as a mammogram; also when the decoder died or hung on it.
        ValueError
            If the reader is closed.
        """
        mammogram = self._ask(Request(Path(path).absolute(), name or Path(path).name, self._timeout))
        assert isinstance(mammogram, Mammogram)
        return mammogram

    def read_header(self, path: Path | str, name: str | None = None, *, keywords: Sequence[str] = ()) -> Dataset:
        """Read the attributes of a DICOM file without its pixel data, whether or not `read` takes it.

        Parameters
        ----------
        path
            A DICOM file.
        name
            What messages call it; the file's name by default.
        keywords
            Only these attributes; all if there is none.

        Raises
        ------
        MammogramError
            If it is no DICOM file or cannot be parsed; also when the parser died or hung on it.
        ValueError
            If the reader is closed.
        """
        name = name or Path(path).name
        header = self._ask(Request(Path(path).absolute(), name, self._timeout, header=True, keywords=tuple(keywords)))
        assert not isinstance(header, Mammogram)
        return header

    def _ask(self, request: Request) -> Mammogram | Dataset:
        if self._pool.closed:
            raise ValueError("the reader is closed")
        name = request.name
        try:
            answer = self._pool.ask(request, request.seconds)
        except ChildHungError as error:
            raise MammogramError(
                f"the decoder did not finish {name} within {request.seconds:g} s and was ended: the file is probably "
                "damaged, copy or send it again from its source."
            ) from error
        except ChildDiedError as error:
            raise MammogramError(
                f"the decoder crashed on {name} ({error.ending}): the file is probably damaged, "
                "copy or send it again from its source."
            ) from error
        if isinstance(answer, str):
            raise MammogramError(answer)
        assert isinstance(answer, Mammogram | Dataset)
        return answer

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The child processes that are there now, for monitoring."""
        return self._pool.process_ids

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_mammogram(path: Path | str, *, name: str | None = None) -> Mammogram:
    """Read one mammogram with a reader that the whole program shares.

    Parameters
    ----------
    path
        A DICOM file or a PNG, JPEG, TIFF or PGM picture, told apart by content.
    name
        What messages call it; the file's name by default.

    Raises
    ------
    MammogramError
        If it cannot be read as a mammogram.
    """
    return _shared_reader.read(path, name)


def _decoder() -> Child:
    try:
        return Child("mammoscope.imaging.reader")
    except ChildStartError as error:
        raise MammogramError(
            "the decoder process does not start: check that this Python can import mammoscope, and the free memory."
        ) from error


_shared_reader = MammogramReader()
atexit.register(_shared_reader.close)


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
