"""Reading mammograms in processes of their own, so that no file can hurt the caller."""

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from pydicom import Dataset

from mammoscope.imaging.channel import Request, receive, send
from mammoscope.imaging.errors import MammogramError
from mammoscope.imaging.mammogram import Mammogram

DECODER_SECONDS = 60.0
"""How long the decoding of one mammogram may take; the slowest real ones take two seconds."""

_START_SECONDS = 120.0  # a cold, loaded machine imports slowly

# The child gets the caller's import path, and neither its main module (as multiprocessing would import it, and run a
# script without a main guard again) nor, with -P, its working directory.
_BOOTSTRAP = "import sys; sys.path[:] = sys.argv[1:]; from mammoscope.imaging.worker import main; main()"


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
        self._workers = workers
        self._timeout = timeout
        self._closed = False
        self._start_afresh()

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
        if os.getpid() != self._owner:
            self._start_afresh()  # forked: the children answer to the other process
        if self._closed:
            raise ValueError("the reader is closed")
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = self._replaced(worker)
            return worker.ask(request)
        except BaseException as error:
            # Whatever else interrupted the exchange (Ctrl-C) left half of it in the pipe.
            if worker is not None and not (isinstance(error, MammogramError) and worker.alive):
                worker.kill()
            raise
        finally:
            if self._closed and worker is not None:
                worker.close()
            self._idle.put(worker)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The child processes that are there now, for monitoring."""
        return tuple(worker.pid for worker in tuple(self._started) if worker.alive)

    def close(self) -> None:
        """End the child processes."""
        self._closed = True
        if os.getpid() != self._owner:
            return
        waiting = []
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.append(self._idle.get_nowait())
        for worker in waiting:  # one that is at work is ended by the thread that waits for it
            if worker is not None:
                worker.close()
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_afresh(self) -> None:
        self._owner = os.getpid()
        # Last in, first out: with less work than workers the same few stay warm.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._started: set[_Worker] = set()
        for _ in range(self._workers):
            self._idle.put(None)

    def _replaced(self, dead: "_Worker | None") -> "_Worker":
        if dead is not None:
            dead.kill()
            self._started.discard(dead)
        worker = _Worker()
        self._started.add(worker)
        return worker


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


class _Worker:
    """One child process and the two pipes to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, *(p for p in sys.path if p)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Decoders run on one thread; a pool per child would only cost memory.
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        # With bufsize=0 the pipes are raw files
        self._requests, self._answers = cast(FileIO, self._process.stdin), cast(FileIO, self._process.stdout)
        try:
            self._receive(_START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.kill()
            raise MammogramError(
                "the decoder process does not start: check that this Python can import mammoscope, and the free memory."
            ) from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: Request) -> Mammogram | Dataset:
        name, timeout = request.name, request.seconds
        try:
            send(self._requests, request)
            answer = self._receive(timeout)
        except TimeoutError as error:
            self.kill()
            raise MammogramError(
                f"the decoder did not finish {name} within {timeout:g} s and was ended: the file is probably damaged, "
                "copy or send it again from its source."
            ) from error
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # the pipe closes a little before the process has its exit code
            self.kill()
            raise MammogramError(
                f"the decoder crashed on {name} ({self._ending()}): the file is probably damaged, "
                "copy or send it again from its source."
            ) from error
        if isinstance(answer, str):
            raise MammogramError(answer)
        assert isinstance(answer, Mammogram | Dataset)
        return answer

    def close(self) -> None:
        """Let an idle child end by itself."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._release()

    def kill(self) -> None:
        self._process.kill()
        self._release()

    def _release(self) -> None:
        self._process.wait()
        self._requests.close()
        self._answers.close()

    def _receive(self, seconds: float) -> Any:
        """The next message; a child that lets it wait too long is killed, which ends the waiting on every system."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            return receive(self._answers)
        except EOFError as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()

    def _ending(self) -> str:
        code = self._process.returncode
        if code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"


_shared_reader = MammogramReader()
atexit.register(_shared_reader.close)
