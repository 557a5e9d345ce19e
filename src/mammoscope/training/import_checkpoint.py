"""From another program's checkpoint to a bundle."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from mammoscope import __version__
from mammoscope.datasets import AnnotatedDataset, load_dataset
from mammoscope.detectors.import_checkpoint import ForeignDetector, Origin, read_foreign
from mammoscope.evaluation import EvaluationError, case_of
from mammoscope.evaluation.data_overlap import known_data
from mammoscope.imaging import Crop, read_mammogram
from mammoscope.inference import BundleInput, BundleMetadata, DataRole, Detector, OperatingPoint, TrainingData
from mammoscope.training.errors import TrainingError
from mammoscope.training.export import as_figures
from mammoscope.training.onnx_export import cannot_be_written, write_bundle
from mammoscope.training.validation import THRESHOLD_RULE, validation_metrics

_UNIT = 32
_USUAL_ASPECT = 0.8
"""Width over height of a digital mammogram of 18 by 24 or 24 by 30 centimetres, nearly."""

_BOX_TOLERANCE, _SCORE_TOLERANCE = 0.5, 0.001
_LOWEST_COMPARED = 0.002
"""Scores this near to the threshold below which nothing is proposed may fall to either side."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a checkpoint does not say of itself.

    Parameters
    ----------
    configuration, origin, classes, norm_epsilon
        As `mammoscope.detectors.import_checkpoint.read_foreign` takes them.
    rows, columns
        The bundle's input in pixels, multiples of 32. ``None``: as the images were resized for the checkpoint, at the
        usual aspect of the data set or of mammograms.
    crop
        What of a mammogram fills the input.
    threshold
        The operating point; ``None``: chosen on ``dataset``.
    dataset
        Folder of a data set whose split ``val`` chooses the operating point and gives the bundle its figures.
    name, version
        What result objects call the model; ``None``: the file's name, Mammoscope's version and a hash of the weights.
    source, licence
        Of the data it learned from.
    """

    configuration: Path | None = None
    origin: Origin | None = None
    classes: Sequence[str] | None = None
    norm_epsilon: float = 1e-5
    rows: int | None = None
    columns: int | None = None
    crop: Crop = Crop.NONE
    threshold: float | None = None
    dataset: Path | None = None
    name: str | None = None
    version: str | None = None
    source: str = "not stated"
    licence: str = "not stated"


def import_checkpoint(
    checkpoint: Path, out: Path, options: ImportOptions, progress: Progress = lambda _done, _total: None
) -> Detector:
    """Make a bundle of a checkpoint of Detectron2, torchvision or orthanc-mammography.

    Returns
    -------
    Detector
        Running the new bundle, which was compared with the network in torch.

    Raises
    ------
    WeightsError
        If checkpoint or configuration cannot be read or are of a network that cannot be imported.
    TrainingError
        If no operating point is given or can be chosen, or the bundle cannot be written or disagrees with the network.
    DatasetError, MammogramError
        If the data set or one of its mammograms cannot be read.
    """
    if options.threshold is None and options.dataset is None:
        raise TrainingError(
            "a bundle needs an operating point: give --threshold, or --dataset with a split 'val' to choose it on"
        )
    validation = load_dataset(options.dataset).narrowed("val").annotated() if options.dataset else None
    foreign = read_foreign(
        checkpoint,
        configuration=options.configuration,
        origin=options.origin,
        classes=options.classes,
        norm_epsilon=options.norm_epsilon,
    )
    metadata = _metadata(checkpoint, foreign, options, validation)
    draft = out.with_name(f"{out.name}.unchecked")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bundle(foreign.network, metadata, draft)
        _check_agreement(foreign, Detector(draft))
        if validation is not None:
            metadata = _with_figures(metadata, Detector(draft), validation, options.threshold, progress)
            write_bundle(foreign.network, metadata, draft)
        draft.replace(out)
    except OSError as error:
        raise cannot_be_written(out, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return Detector(out)


def input_sides(foreign: ForeignDetector, aspect: float) -> tuple[int, int]:
    """Rows and columns of an input as the checkpoint's program would resize an image of that width over height."""
    short, long = foreign.short_side, foreign.long_side
    rows, columns = (1.0, aspect)
    if short is None or short == 0:
        scale = (long or 0) / rows
    else:
        scale = short / min(rows, columns)
        if long:
            scale = min(scale, long / max(rows, columns))
    return _to_unit(rows * scale), _to_unit(columns * scale)


def _to_unit(side: float) -> int:
    return max(round(side / _UNIT), 1) * _UNIT


def _metadata(
    checkpoint: Path, foreign: ForeignDetector, options: ImportOptions, validation: AnnotatedDataset | None
) -> BundleMetadata:
    aspect = median(image.columns / image.rows for image in validation) if validation else _USUAL_ASPECT
    rows, columns = input_sides(foreign, aspect)
    rows, columns = options.rows or rows, options.columns or columns
    if rows % _UNIT or columns % _UNIT or min(rows, columns) < _UNIT:
        raise TrainingError(f"the input's sides are multiples of {_UNIT}, not {rows} x {columns}")
    return BundleMetadata(
        name=options.name or checkpoint.stem,
        version=options.version or f"{__version__}+{_hash_of(foreign)}",
        input=BundleInput(rows=rows, columns=columns, crop=options.crop),
        classes=foreign.classes,
        operating_points=(
            OperatingPoint(
                name="default",
                threshold=options.threshold or 0.0,
                rule="given by whoever imported the model",
                chosen_on="not stated",
            ),
        ),
        training_data=(
            TrainingData(name=options.source, licence=options.licence, images=0, patients=0, fingerprint="not known"),
        ),
        made_with=f"mammoscope {__version__}, from a checkpoint of {foreign.origin}, torch {torch.__version__}",
    )


def _hash_of(foreign: ForeignDetector) -> str:
    digest = hashlib.sha256()
    for name, value in foreign.network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _check_agreement(foreign: ForeignDetector, bundle: Detector) -> None:
    """Run both on a picture of noise and blobs, at the network's input."""
    picture = _picture(bundle.bundle.metadata.input.rows, bundle.bundle.metadata.input.columns)
    with torch.no_grad():
        found = foreign.network(torch.from_numpy(picture))[0]
    expected = [found[key].numpy() for key in ("boxes", "scores", "labels")]
    given = bundle.bundle.session.run(["boxes", "scores", "labels"], {"image": picture})
    for ours, theirs in ((expected, given), (given, expected)):
        if not _all_found(ours, theirs):
            raise TrainingError(
                "the bundle finds something else than the network in torch and was not kept: report this with the "
                "versions of torch and onnxruntime"
            )


def _all_found(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    (boxes, scores, labels), (other_boxes, other_scores, other_labels) = ours, theirs
    if not len(scores):
        return True
    counts = scores > scores.min() + _LOWEST_COMPARED
    alike = (
        (np.abs(boxes[:, None] - other_boxes).max(-1) <= _BOX_TOLERANCE)
        & (np.abs(scores[:, None] - other_scores) <= _SCORE_TOLERANCE)
        & (labels[:, None] == other_labels)
    )
    return bool(alike.any(1)[counts].all())


def _picture(rows: int, columns: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:rows, :columns]
    picture = generator.uniform(0, 0.2, (rows, columns))
    for _ in range(8):
        row, column = generator.uniform(0, rows), generator.uniform(0, columns)
        size = generator.uniform(0.02, 0.1) * min(rows, columns)
        picture += 0.6 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size**2))
    return np.clip(picture, 0, 1).astype(np.float32)[np.newaxis, np.newaxis]


def _with_figures(
    metadata: BundleMetadata,
    bundle: Detector,
    validation: AnnotatedDataset,
    threshold: float | None,
    progress: Progress,
) -> BundleMetadata:
    results = []
    for number, image in enumerate(validation):
        found = bundle.candidates(read_mammogram(image.path))
        results.append(case_of(image, found).result)
        progress(number + 1, len(validation))
    try:
        metrics = validation_metrics(results, validation, metadata.name)
    except EvaluationError as error:
        raise TrainingError(
            f"the network finds no lesion on the validation images of {validation.name}: give the checkpoint's own "
            "kind of images, or an operating point with --threshold"
        ) from error
    chosen = OperatingPoint(
        name="default",
        threshold=metrics.threshold,
        rule=THRESHOLD_RULE,
        chosen_on=f"{validation.name}, split val, {metrics.n_images} images of {metrics.n_patients} patients",
    )
    update: dict[str, Any] = {"figures": (as_figures(metrics),)}
    if threshold is None:  # only then validation decided something
        update |= {"operating_points": (chosen,), "known_data": (known_data(DataRole.CHOSEN, validation),)}
    return metadata.model_copy(update=update)
