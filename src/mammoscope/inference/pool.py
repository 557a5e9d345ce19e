"""`ModelPool`: the bundle in processes of its own, so that nothing that the model does ends the node.

The process that runs a bundle for others, where a model may die alone.

It greets with the bundle's metadata, or with the sentence of an error as a ``str``, and answers each `ReadRequest` with
a `Reading` or again a sentence.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import structlog

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading
from mammoscope.imaging import Mammogram
from mammoscope.inference.bundle import BundleError, BundleMetadata
from mammoscope.inference.detector import Detector
from mammoscope.subprocesses.pool import Child, ChildDiedError, ChildHungError, ChildPool, ChildStartError
from mammoscope.subprocesses.protocol import serve


@dataclass(frozen=True, slots=True, eq=False)
class ReadRequest:
    """Read a mammogram; ``seconds`` after which nobody waits for the answer any more."""

    mammogram: Mammogram
    threshold: float | None
    seconds: float


def main(bundle: str | None, threads: int) -> None:
    """Answer requests until the standard input ends."""
    serve(lambda: _prepare(bundle, threads))


def _prepare(bundle: str | None, threads: int) -> tuple[BundleMetadata | str, Callable[[ReadRequest], Reading | str]]:
    cv2.setNumThreads(threads)
    try:
        detector = Detector(None if bundle is None else Path(bundle), threads=threads)
    except BundleError as error:
        sentence = str(error)
        return sentence, lambda _: sentence
    return detector.bundle.metadata, lambda request: _answer(detector, request)


def _answer(detector: Detector, request: ReadRequest) -> Reading | str:
    name = request.mammogram.name
    try:
        return detector.read(request.mammogram, request.threshold)
    except MemoryError:
        return f"the model needs more memory than there is to read {name}: give the machine more, or fewer processes"
    except Exception as error:  # onnxruntime has no public base of its errors
        return f"the model failed on {name} ({type(error).__name__}): check the bundle with 'mammoscope detect'"


MODEL_SECONDS = 300.0
"""How long the reading of one mammogram may take; large models take ten seconds on a machine that is idle."""

log = structlog.get_logger(__name__)


class ModelError(MammoscopeError):
    """The model gave no reading of a mammogram."""


class ModelLostError(ModelError):
    """The model's process died or hung on a mammogram. Another try, in a new process, may do."""


class ModelPool:
    """A `mammoscope.node.MammogramDetector` that runs a bundle in child processes.

    A process that crashes or hangs ends the try of the one mammogram that it had; it is replaced, and the others go on.
    Safe to use from several threads; as many mammograms are read at once as there are processes. This process itself
    does not load the model.

    Parameters
    ----------
    bundle
        The bundle's file; ``None`` for the shipped one.
    processes
        ``None`` for one for every two cores. One starts here, each of the others when it is first needed.
    threads
        Of each process; ``None`` to share the cores among them.
    threshold
        Lowest score reported where `read` is given none; ``None`` for the bundle's own operating point.
    timeout
        Seconds after which a model counts as hanging and is ended.

    Raises
    ------
    BundleError
        If the bundle cannot be run, or its process does not start.
    ValueError
        If ``processes``, ``threads`` or ``timeout`` is not positive.

    Examples
    --------
    >>> with ModelPool(Path("masses.onnx"), processes=2) as model:  # doctest: +SKIP
    ...     reading = model.read(mammogram)
    """

    def __init__(
        self,
        bundle: Path | None = None,
        *,
        processes: int | None = None,
        threads: int | None = None,
        threshold: float | None = None,
        timeout: float = MODEL_SECONDS,
    ) -> None:
        self.processes, self.threads = shares(_cores(), processes, threads)
        if min(self.processes, self.threads, timeout) <= 0:
            raise ValueError("a pool needs at least one process of one thread and some time")
        self._bundle = bundle
        self._threshold = threshold
        self._timeout = timeout
        self._metadata: BundleMetadata | None = None
        self._pool = ChildPool(self._start, self.processes)
        self._pool.warm_up()

    @property
    def metadata(self) -> BundleMetadata:
        """What the bundle says about itself."""
        assert self._metadata is not None, "the first process told it"
        return self._metadata

    @property
    def algorithm(self) -> Algorithm:
        """Name and version of the bundle."""
        return Algorithm(self.metadata.name, self.metadata.version)

    @property
    def threshold(self) -> float:
        """Lowest score reported where `read` is given none."""
        return self.metadata.operating_points[0].threshold if self._threshold is None else self._threshold

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes that are there now, for monitoring."""
        return self._pool.process_ids

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        """Read one mammogram, waiting for a process that is free.

        Raises
        ------
        ModelLostError
            If the process died or hung.
        ModelError
            If the model failed on this mammogram; it would again.
        BundleError
            If a process had to be replaced and the bundle cannot be run any more.
        ValueError
            If the pool is closed.
        """
        bare = replace(mammogram, header=None, path=None)  # all that the model sees, and nothing of the patient
        request = ReadRequest(bare, self.threshold if threshold is None else threshold, self._timeout)
        try:
            answer = self._pool.ask(request, self._timeout)
        except ChildHungError as error:
            raise ModelLostError(
                f"the model did not finish {mammogram.name} within {self._timeout:g} s and was ended: a machine that is"
                " too busy, or a damaged image"
            ) from error
        except ChildDiedError as error:
            raise ModelLostError(
                f"the model's process ended while it read {mammogram.name} ({error.ending}): if it was killed for want"
                " of memory, set fewer 'processes' in [model]"
            ) from error
        if isinstance(answer, str):
            raise ModelError(answer)
        assert isinstance(answer, Reading)
        return answer

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> Child:
        try:
            child = Child("mammoscope.inference.pool", (self._bundle and str(self._bundle.absolute()), self.threads))
        except ChildStartError as error:
            raise BundleError(
                "the model's process does not start: check that this Python can import mammoscope and onnxruntime, and"
                " the free memory"
            ) from error
        try:
            self._check(child.greeting)
        except BundleError:
            child.kill()
            raise
        log.info("model process started", process=child.pid, threads=self.threads)
        return child

    def _check(self, greeting: BundleMetadata | str) -> None:
        if isinstance(greeting, str):
            raise BundleError(greeting)
        if self._metadata is None:
            self._metadata = greeting
        elif greeting != self._metadata:
            # Its findings would go out under the name of the bundle that was there at the start.
            raise BundleError(f"the bundle {self._bundle} is not the one that was there at the start: start again")


def shares(cores: int, processes: int | None, threads: int | None) -> tuple[int, int]:
    """How many processes, and threads of each, where ``None`` leaves it to the number of cores."""
    if processes is None:
        processes = max(1, cores // 2)
    if threads is None:
        threads = max(1, cores // max(1, processes))
    return processes, threads


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
