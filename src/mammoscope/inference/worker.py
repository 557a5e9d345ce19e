"""The process that runs a bundle for others, where a model may die alone.

It greets with the bundle's metadata, or with the sentence of an error as a ``str``, and answers each `ReadRequest` with
a `Reading` or again a sentence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from mammoscope.findings import Reading
from mammoscope.imaging import Mammogram
from mammoscope.imaging.serving import serve
from mammoscope.inference.bundle import BundleError, BundleMetadata
from mammoscope.inference.detector import Detector


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
