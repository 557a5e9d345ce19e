"""Reading mammograms in processes of their own, so that no file can hurt the caller."""

import atexit
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import Dataset

from mammoscope.imaging.channel import Request
from mammoscope.imaging.children import Child, ChildDiedError, ChildHungError, ChildPool, ChildStartError
from mammoscope.imaging.errors import MammogramError
from mammoscope.imaging.mammogram import Mammogram

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
        return Child("mammoscope.imaging.worker")
    except ChildStartError as error:
        raise MammogramError(
            "the decoder process does not start: check that this Python can import mammoscope, and the free memory."
        ) from error


_shared_reader = MammogramReader()
atexit.register(_shared_reader.close)
