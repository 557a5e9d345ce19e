"""`ModelPool`: the bundle in processes of its own, so that nothing that the model does ends the caller.

Such a process greets with the bundle's metadata, and answers the input of the network, prepared elsewhere, with its
output: boxes, scores and labels as arrays.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from mammoscope.findings import Algorithm, Reading
from mammoscope.imaging import Mammogram, Preprocessing, ReducedMammogram
from mammoscope.inference.bundle import Bundle, BundleError, BundleMetadata
from mammoscope.inference.detector import ModelError, findings_of, network_input, reading_at
from mammoscope.inference.two_views import TwoViews
from mammoscope.lifecycle import Closing
from mammoscope.subprocesses import (
    Child,
    ChildDiedError,
    ChildHungError,
    ChildPool,
    ChildStartError,
    Message,
    forbid_system_calls,
    limit_memory,
    machine_memory,
    serve,
    usable_cores,
)

MODEL_SECONDS = 300.0
"""How long the reading of one mammogram may take; large models take ten seconds on a machine that is idle."""

log = structlog.get_logger(__name__)


MOST_BYTES = 64 << 20
"""Of the arrays of a request or an answer: an input of 4096 x 4096 pixels, a million boxes."""


class ModelUnavailableError(ModelError):
    """The machine's trouble, not the mammogram's: there is too little memory to run the model."""


class ModelLostError(ModelError):
    """The model's process died or hung on a mammogram. Another try, in a new process, may do.

    Parameters
    ----------
    killed
        Whether it was killed from outside, as a system does that has no memory left.
    """

    def __init__(self, sentence: str, *, killed: bool = False) -> None:
        super().__init__(sentence)
        self.killed = killed


class ModelPool(Closing):
    """A `mammoscope.reading.MammogramDetector` that runs a bundle in child processes.

    A process that crashes or hangs ends the try of the one mammogram that it had; it is replaced, the others continue.
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
        self.processes, self.threads = shares(usable_cores(), processes, threads)
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
    def preprocessing(self) -> Preprocessing:
        """What the bundle wants made of a mammogram's pixels."""
        return self.metadata.input.preprocessing

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes that are there now, for monitoring."""
        return self._pool.process_ids

    @property
    def two_views(self) -> TwoViews | None:
        """How the bundle reads the two views of a breast together; ``None`` where it does not."""
        return self.metadata.two_views

    def read(
        self,
        mammogram: Mammogram | ReducedMammogram,
        threshold: float | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Reading:
        """Read one mammogram, waiting for a process that is free.

        Parameters
        ----------
        keep_candidates
            As of `mammoscope.inference.reading_at`.

        Raises
        ------
        ModelLostError
            If the process died or hung.
        ModelUnavailableError
            If the machine has too little memory.
        ModelError
            If the model failed on this mammogram; it would again.
        BundleError
            If a process had to be replaced and the bundle cannot be run any more.
        ValueError
            If the pool is closed.
        """
        prepared = network_input(mammogram, self.preprocessing)
        # All that the model sees, and nothing of the patient
        request = Message({"seconds": self._timeout}, {"image": prepared.pixels})
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
                " of memory, set fewer 'processes' in [model]",
                killed=error.killed,
            ) from error
        _check_answer(answer, mammogram.name)
        output = (_array(answer, "boxes", "f"), _array(answer, "scores", "f"), _array(answer, "labels", "i"))
        findings = findings_of(output, self.metadata, prepared.placement, mammogram)
        threshold = self.threshold if threshold is None else threshold
        return reading_at(threshold, mammogram, findings, self.algorithm, keep_candidates=keep_candidates)

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _start(self) -> Child:
        try:
            arguments = (self._bundle and str(self._bundle.absolute()), self.threads)
            child = Child(__name__, arguments, most_bytes=MOST_BYTES)
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

    def _check(self, greeting: Message) -> None:
        problem, metadata = greeting.fields.get("problem"), greeting.fields.get("metadata")
        if problem is not None:
            raise BundleError(str(problem))
        given = BundleMetadata.model_validate(metadata)
        if self._metadata is None:
            self._metadata = given
        elif given != self._metadata:
            # Its findings would go out under the name of the bundle that was there at the start.
            raise BundleError(f"the bundle {self._bundle} is not the one that was there at the start: start again")


def _check_answer(answer: Message, name: str) -> None:
    problem = answer.fields.get("problem")
    if problem == "memory":
        raise ModelUnavailableError(
            f"the model needs more memory than there is to read {name}: give the machine more, or fewer processes"
        )
    if problem is not None:
        log.warning("model failed", image=name, error=str(problem)[:200])
        raise ModelError(f"the model failed on {name}: check the bundle with 'mammoscope detect'")


def _array(answer: Message, name: str, kind: str) -> NDArray[Any]:
    array = answer.arrays.get(name)
    if array is None or array.dtype.kind != kind:
        raise ModelError("the model's process gave an answer that is none: check the bundle with 'mammoscope detect'")
    return array


def shares(cores: int, processes: int | None, threads: int | None) -> tuple[int, int]:
    """How many processes, and threads of each, where ``None`` leaves it to the number of cores."""
    if processes is None:
        processes = max(1, cores // 2)
    if threads is None:
        threads = max(1, cores // max(1, processes))
    return processes, threads


# In the child process ---------------------------------------------------------------------------------------------


def main(bundle: str | None, threads: int) -> None:
    """Answer requests until the standard input ends."""
    serve(lambda: _prepare(bundle, threads), MOST_BYTES)


def _prepare(path: str | None, threads: int) -> tuple[Message, Callable[[Message], Message]]:
    cv2.setNumThreads(threads)
    limit_memory(machine_memory() * 3 // 4)
    forbid_system_calls()  # before the bundle, which may be untrusted too
    try:
        bundle = Bundle.open(None if path is None else Path(path), threads=threads)
    except BundleError as error:
        sentence = str(error)
        return Message({"problem": sentence}), lambda _: Message({"problem": sentence})
    return Message({"metadata": bundle.metadata.model_dump(mode="json")}), lambda request: _answer(bundle, request)


def _answer(bundle: Bundle, request: Message) -> Message:
    try:
        boxes, scores, labels = bundle.run(request.arrays["image"])
        arrays = {"boxes": _plain(boxes, "f"), "scores": _plain(scores, "f"), "labels": _plain(labels, "i")}
        return Message({}, arrays)
    except MemoryError:
        return Message({"problem": "memory"})
    except Exception as error:  # onnxruntime has no public base of its errors
        return Message({"problem": type(error).__name__})


def _plain(array: NDArray[Any], kind: str) -> NDArray[Any]:
    """An array of a type that messages have, without loss."""
    if array.dtype.str in ("<f4", "<f8", "<i4", "<i8"):
        return array
    return array.astype(np.float64 if kind == "f" else np.int64)
