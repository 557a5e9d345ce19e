"""`ExplainingProcess`: D-RISE in a process of its own, which leaves the processor to whoever else wants it.

Such a process greets with the bundle's metadata. It is given the input of the network, prepared elsewhere, and the
boxes; then it is asked for a few masks at a time, so that whoever waits can tell how far it is, and can stop it.
"""

import os
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import MammoscopeError
from mammoscope.explain.drise import Occlusion, Progress, occlusion_steps, similarity_to
from mammoscope.explain.heat_map import ExplainError, HeatMap
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Placement, PreparedImage
from mammoscope.inference import Bundle, BundleError, BundleMetadata
from mammoscope.lifecycle import Closing
from mammoscope.subprocesses import (
    Child,
    ChildDiedError,
    ChildHungError,
    ChildStartError,
    Message,
    forbid_system_calls,
    limit_memory,
    machine_memory,
    serve,
)

MOST_BYTES = 128 << 20
"""Of the arrays of a request or an answer: an input, or the maps of a few findings on it."""

STEP_SECONDS = 0.5
"""How long the process works between two words on how far it is."""

LONGEST_STEP_SECONDS = 300.0
"""By then a mask must be done, on a machine that gives the process next to nothing."""

LOWEST_PRIORITY = 19


class ExplainingProcess(Closing):
    """A bundle in a child process of the lowest priority and one thread.

    Parameters
    ----------
    bundle
        The bundle's file; ``None`` for the shipped one.

    Raises
    ------
    BundleError
        If the bundle cannot be run, or its process does not start.

    Examples
    --------
    >>> with ExplainingProcess() as process:  # doctest: +SKIP
    ...     prepared = prepare(mammogram, process.metadata.input.preprocessing)
    ...     [heat_map] = process.drise(prepared, [finding])
    """

    def __init__(self, bundle: Path | None = None) -> None:
        try:
            arguments = (None if bundle is None else str(bundle.absolute()),)
            self._child = Child(__name__, arguments, most_bytes=MOST_BYTES)
        except ChildStartError as error:
            raise BundleError("the process that explains does not start: check the free memory") from error
        greeting = self._child.greeting.fields
        if "problem" in greeting:
            self._child.kill()
            raise BundleError(str(greeting["problem"]))
        self.metadata = BundleMetadata.model_validate(greeting["metadata"])
        """What the bundle says about itself."""

    def drise(
        self,
        prepared: PreparedImage,
        findings: Sequence[Finding],
        occlusion: Occlusion | None = None,
        progress: Progress = lambda _done, _total: None,
    ) -> list[HeatMap]:
        """A heat map for each finding, the same as `mammoscope.explain.drise` makes.

        Parameters
        ----------
        prepared
            The mammogram as the bundle's preprocessing makes it.
        progress
            Told every `STEP_SECONDS` how many masks are done, and of how many; what it raises ends the work.

        Raises
        ------
        ExplainError
            If a finding's label is none of the bundle's classes, or the process died.
        ValueError
            If it is closed.
        """
        occlusion = occlusion or Occlusion()
        place = prepared.placement
        begin = {
            "labels": [finding.label for finding in findings],
            "placement": [place.left, place.top, place.x_scale, place.y_scale],
            "occlusion": [occlusion.masks, occlusion.cells, occlusion.keep, occlusion.seed],
        }
        boxes = np.array([finding.box.as_tuple() for finding in findings], np.float64)
        answer = self._ask({"task": "begin", **begin}, {"image": prepared.pixels, "boxes": boxes})
        while "done" in answer.fields:
            progress(int(answer.fields["done"]), occlusion.masks)
            answer = self._ask({"task": "step"})
        maps = answer.arrays["maps"]
        return [
            HeatMap(values, place, str(occlusion), "rise of the score where shown, not hidden", float(agreement))
            for values, agreement in zip(maps, answer.fields["agreements"], strict=True)
        ]

    @property
    def process_id(self) -> int:
        """The child process."""
        return self._child.pid

    def close(self) -> None:
        """End the process."""
        self._child.kill()

    def _ask(self, fields: dict[str, Any], arrays: dict[str, NDArray[Any]] | None = None) -> Message:
        try:
            message = Message({**fields, "seconds": LONGEST_STEP_SECONDS}, arrays or {})
            answer = self._child.ask(message, LONGEST_STEP_SECONDS)
        except ChildHungError as error:
            raise ExplainError("the process that explains did not answer in time: the machine is too busy") from error
        except ChildDiedError as error:
            raise ExplainError(f"the process that explains ended ({error.ending}): check the free memory") from error
        if "problem" in answer.fields:
            raise ExplainError(str(answer.fields["problem"]))
        return answer


# In the child process ---------------------------------------------------------------------------------------------

_Steps = Generator[int, None, list[tuple[NDArray[np.float32], float]]]


def main(bundle: str | None) -> None:
    """Answer requests until the standard input ends."""
    os.nice(LOWEST_PRIORITY)
    serve(lambda: _prepare(bundle), MOST_BYTES)


def _prepare(path: str | None) -> tuple[Message, Callable[[Message], Message]]:
    cv2.setNumThreads(1)
    limit_memory(machine_memory() * 3 // 4)
    forbid_system_calls()
    try:
        bundle = Bundle.open(None if path is None else Path(path), threads=1)
    except BundleError as error:
        sentence = str(error)
        return Message({"problem": sentence}), lambda _: Message({"problem": sentence})
    return Message({"metadata": bundle.metadata.model_dump(mode="json")}), _Work(bundle).answer


class _Work:
    """One image's masks, under way."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._steps: _Steps | None = None

    def answer(self, request: Message) -> Message:
        try:
            if request.fields["task"] == "begin":
                self._steps = self._begun(request)
                return Message({"done": 0})
            assert self._steps is not None, "a step follows a beginning"
            return self._after_some(self._steps)
        except MemoryError:
            return Message({"problem": "the machine has too little memory to explain this image"})
        except MammoscopeError as error:
            return Message({"problem": str(error)})
        except Exception as error:  # onnxruntime has no public base of its errors
            return Message({"problem": f"the model failed on this image ({type(error).__name__})"})

    def _begun(self, request: Message) -> _Steps:
        fields = request.fields
        masks, cells, keep, seed = fields["occlusion"]
        boxes = request.arrays["boxes"].tolist()
        findings = [Finding(Box(*box), 0.0, label) for box, label in zip(boxes, fields["labels"], strict=True)]
        similarity = similarity_to(self._bundle, findings, Placement(*fields["placement"]))
        return occlusion_steps(request.arrays["image"], similarity, Occlusion(masks, cells, keep, seed))

    @staticmethod
    def _after_some(steps: _Steps) -> Message:
        until = time.monotonic() + STEP_SECONDS
        done = 0
        try:
            while True:
                done = next(steps)
                if time.monotonic() >= until:
                    return Message({"done": done})
        except StopIteration as ended:
            maps = ended.value
            agreements = [float(agreement) for _, agreement in maps]
            return Message({"agreements": agreements}, {"maps": np.stack([values for values, _ in maps])})
