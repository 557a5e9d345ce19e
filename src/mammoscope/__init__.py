"""Mammoscope: finds masses in mammograms and puts them where a radiologist reads.

Research use only; not a medical device.

The names below are the public interface; everything else may change without notice. Each is imported when it is first
used, so that ``import mammoscope`` costs nothing.

>>> import mammoscope as ms
>>> image = ms.read_mammogram("case.dcm")
>>> reading = ms.Detector(threads=1).read(image)
>>> ms.draw(image, reading).save("case.png")
>>> data = ms.load_dataset("mine")
>>> result = ms.evaluate(ms.Detector(threads=1), data, resamples=100)
>>> result.metrics.n_boxes
2
"""

from importlib import import_module

__version__ = "0.2.0"

_HOMES = {
    "AnnotatedDataset": "mammoscope.datasets",
    "AnnotatedImage": "mammoscope.datasets",
    "Box": "mammoscope.findings",
    "BundleError": "mammoscope.inference",
    "Comparison": "mammoscope.evaluation.library",
    "DatasetError": "mammoscope.datasets",
    "Detector": "mammoscope.library",
    "Evaluation": "mammoscope.evaluation.library",
    "EvaluationError": "mammoscope.evaluation.matching",
    "Finding": "mammoscope.findings",
    "Laterality": "mammoscope.imaging",
    "Mammogram": "mammoscope.imaging",
    "MammogramError": "mammoscope.imaging",
    "MammoscopeError": "mammoscope.errors",
    "PixelSpace": "mammoscope.evaluation.prediction_files",
    "Predictions": "mammoscope.evaluation.prediction_files",
    "Reading": "mammoscope.findings",
    "ReadingStatus": "mammoscope.findings",
    "View": "mammoscope.imaging",
    "compare": "mammoscope.evaluation.library",
    "draw": "mammoscope.library",
    "evaluate": "mammoscope.evaluation.library",
    "load_dataset": "mammoscope.library",
    "read_mammogram": "mammoscope.library",
    "read_predictions": "mammoscope.evaluation.prediction_files",
    "screening_study": "mammoscope.phantom",
}
"""Where each public name lives; ``__init__.pyi`` tells type checkers and editors the same."""

__all__ = [
    "AnnotatedDataset",
    "AnnotatedImage",
    "Box",
    "BundleError",
    "Comparison",
    "DatasetError",
    "Detector",
    "Evaluation",
    "EvaluationError",
    "Finding",
    "Laterality",
    "Mammogram",
    "MammogramError",
    "MammoscopeError",
    "PixelSpace",
    "Predictions",
    "Reading",
    "ReadingStatus",
    "View",
    "__version__",
    "compare",
    "draw",
    "evaluate",
    "load_dataset",
    "read_mammogram",
    "read_predictions",
    "screening_study",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
