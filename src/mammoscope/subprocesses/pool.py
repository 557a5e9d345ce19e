"""Child processes that answer one request at a time and may die alone: `Child`, and `ChildPool` that replaces them."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import TypeVar, cast

from mammoscope.subprocesses.protocol import Message, ProtocolError, receive, send

_Result = TypeVar("_Result")

_START_SECONDS = 120.0  # a cold, loaded machine imports slowly

# The child gets the caller's import path, and neither its main module (as multiprocessing would import it, and run a
# script without a main guard again) nor, with -P, its working directory.
_BOOTSTRAP = (
    "import importlib, json, sys; module, arguments, *path = sys.argv[1:]; sys.path[:] = path; "
    # pydicom loads it where it is installed, to download test files; a child has no network.
    "sys.modules['requests'] = None; "
    "importlib.import_module(module).main(*json.loads(arguments))"
)


class ChildError(Exception):
    """A child gave no answer."""


class ChildStartError(ChildError):
    """A child does not start."""


class ChildHungError(ChildError):
    """A child did not answer in time and was ended."""


class ChildDiedError(ChildError):
    """A child died.

    Parameters
    ----------
    ending
        How: the name of a signal, or an exit code in words.
    """

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending

    @property
    def killed(self) -> bool:
        """Whether it was killed from outside, as a system does that has no memory left."""
        return self.ending == "SIGKILL"


class Child:
    """One child process and the two pipes to it.

    Parameters
    ----------
    module
        Its ``main`` is run with ``arguments`` and calls `mammoscope.subprocesses.protocol.serve`.
    arguments
        Of JSON's types.
    most_bytes
        Of the arrays of an answer; a child that answers with more is ended.

    Raises
    ------
    ChildStartError
        If it cannot be started, or does not say that it is ready.
    """

    def __init__(self, module: str, arguments: Sequence[object] = (), *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        try:
            self._process = self._start(module, arguments)
        except OSError as error:  # no memory or no process number is left
            raise ChildStartError from error
        # With bufsize=0 the pipes are raw files
        self._requests, self._answers = cast(FileIO, self._process.stdin), cast(FileIO, self._process.stdout)
        try:
            with self._ended_after(_START_SECONDS):
                self.greeting = receive(self._answers, most_bytes)
        except (EOFError, TimeoutError, ProtocolError) as error:
            self.kill()
            raise ChildStartError from error

    @staticmethod
    def _start(module: str, arguments: Sequence[object]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, module, json.dumps(arguments), *(p for p in sys.path if p)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
        )

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, request: Message, seconds: float) -> Message:
        """The answer to a request.

        Raises
        ------
        ChildHungError, ChildDiedError
            If there is none; the child is gone then.
        """
        try:
            with self._ended_after(seconds):
                send(self._requests, request)
                return receive(self._answers, self._most_bytes)
        except TimeoutError as error:
            self.kill()
            raise ChildHungError from error
        except ProtocolError as error:
            self.kill()
            raise ChildDiedError("an answer that is no message") from error
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # the pipe closes a little before the process has its exit code
            self.kill()
            raise ChildDiedError(self._ending()) from error

    def close(self) -> None:
        """Let it end by itself when it is idle."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._release()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._release()

    def _release(self) -> None:
        self._process.wait()
        self._requests.close()
        self._answers.close()

    @contextlib.contextmanager
    def _ended_after(self, seconds: float) -> Iterator[None]:
        """Kill a child that lets an exchange wait too long, which ends the waiting on every system."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError) as error:
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


def _environment() -> dict[str, str]:
    """The caller's without its settings, among which are tokens and the database's password."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("MAMMOSCOPE")}
    # Decoders and models are told their threads; a pool per child would only cost memory.
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class ChildPool:
    """Children that are kept for the next request and replaced when they die.

    Safe to use from several threads; after a fork each process gets children of its own.

    Parameters
    ----------
    start
        Starts a child; each is started when it is first needed.
    size
        How many requests are answered at once when several threads ask.
    """

    def __init__(self, start: Callable[[], Child], size: int) -> None:
        self._start = start
        self._size = size
        self.closed = False
        self._start_afresh()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The children that are there now, for monitoring."""
        return tuple(child.pid for child in tuple(self._started) if child.alive)

    def ask(self, request: Message, seconds: float) -> Message:
        """The answer of a child that is free, or will be.

        Raises
        ------
        ChildHungError, ChildDiedError
            If there is none.
        ValueError
            If the pool is closed.
        Exception
            What ``start`` raises.
        """
        return self._with_child(lambda child: child.ask(request, seconds))

    def warm_up(self) -> None:
        """Have one child running, so that what keeps it from starting is raised now.

        Raises
        ------
        Exception
            What ``start`` raises.
        """
        self._with_child(lambda child: child.greeting)

    def close(self) -> None:
        """End the children."""
        self.closed = True
        if os.getpid() != self._owner:
            return
        waiting = []
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.append(self._idle.get_nowait())
        for child in waiting:  # one that is at work is ended by the thread that waits for it
            if child is not None:
                child.close()
            self._idle.put(child)

    def _with_child(self, use: Callable[[Child], _Result]) -> _Result:
        if os.getpid() != self._owner:
            self._start_afresh()  # forked: the children answer to the other process
        if self.closed:
            raise ValueError("the pool is closed")
        child = self._idle.get()
        try:
            if child is None or not child.alive:
                child = self._replaced(child)
            return use(child)
        except BaseException:
            # What interrupted the exchange (Ctrl-C) left half of it in the pipe.
            if child is not None:
                child.kill()
            raise
        finally:
            if self.closed and child is not None:
                child.close()
            self._idle.put(child)

    def _start_afresh(self) -> None:
        self._owner = os.getpid()
        # Last in, first out: with less work than children the same few stay warm.
        self._idle: queue.LifoQueue[Child | None] = queue.LifoQueue()
        self._started: set[Child] = set()
        for _ in range(self._size):
            self._idle.put(None)

    def _replaced(self, dead: Child | None) -> Child:
        if dead is not None:
            dead.kill()
            self._started.discard(dead)
        child = self._start()
        self._started.add(child)
        return child
