"""From runs to a bundle: one network, or several fused into one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.datasets import AnnotatedDataset
from mammoscope.detectors import FusedDetector, MassDetector
from mammoscope.evaluation import EvaluationError, Metrics
from mammoscope.evaluation.data_overlap import known_data
from mammoscope.findings import Finding
from mammoscope.imaging import read_mammogram
from mammoscope.inference import (
    BundleInput,
    BundleMetadata,
    DataRole,
    Detector,
    Figures,
    KnownData,
    OperatingPoint,
    TrainingData,
    rewrite_metadata,
)
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.onnx_export import averaged_detector, cannot_be_written, trained_detector, write_bundle
from mammoscope.training.recipe import Recipe, published_recipe
from mammoscope.training.run_report import Progress, Validation, data_of, named, validate, write_validation
from mammoscope.training.validation import THRESHOLD_RULE, candidates

_CHECKED_IMAGES = 4
_SCORE_TOLERANCE = 0.01
_BOX_TOLERANCE = 0.5


@dataclass(frozen=True, slots=True)
class _Model:
    """What a bundle is made of: a detector, the recipes behind it, and how it did on validation."""

    detector: MassDetector
    recipes: tuple[Recipe, ...]
    mirrored: bool
    averaged: bool
    validated: Validation

    @property
    def recipe(self) -> Recipe:
        """The first, whose input and classes are the bundle's."""
        return self.recipes[0]

    def described(self) -> dict[str, Any]:
        """How it was trained, as the bundle keeps it."""
        published = [published_recipe(recipe) for recipe in self.recipes]
        if len(published) == 1 and not self.mirrored:
            return published[0]
        how = "averaged" if self.averaged else "fused"
        return {"mirrored": self.mirrored, how: {str(n): one for n, one in enumerate(published, start=1)}}


def export_bundle(
    run: RunFolder | Sequence[RunFolder],
    out: Path,
    *,
    mirrored: bool = False,
    averaged: bool = False,
    name: str | None = None,
    version: str | None = None,
    dataset: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Detector:
    """Make a bundle of a run: operating point from validation, figures and training data in its metadata.

    Parameters
    ----------
    run
        Several are fused into one bundle (`mammoscope.detectors.FusedDetector`): what they agree on counts more. It
        takes the first's input, and as long as all of them together.
    mirrored
        Whether each network also looks at the mirror image: twice the time.
    averaged
        Whether several runs become one network of their mean weights instead (`averaged_detector`): the time of one.
    name
        What result objects call the model; ``None`` for the recipe's name.
    version
        ``None`` for Mammoscope's version and a hash of weights, detector and input, so that another model never passes
        for this one.
    dataset
        Where the data set of the runs lies now; ``None`` for where it lay when they were trained.

    Returns
    -------
    Detector
        Running the new bundle, which was compared with the network in torch.

    Raises
    ------
    TrainingError
        As `report_validation` and `averaged_detector`, and if runs to join differ in data or classes, the file cannot
        be written, or the bundle and the network in torch disagree.
    """
    runs = [run] if isinstance(run, RunFolder) else list(run)
    # Checked under another name: a bundle already at ``out`` stays until this one has proved itself.
    draft = out.with_name(f"{out.name}.unchecked")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise cannot_be_written(out, error) from error
    data = data_of(runs[0], dataset)
    if len(runs) == 1 and not mirrored and not averaged:
        model = _single(runs[0], dataset, progress)
    else:
        model = _several(runs, data, progress, mirrored=mirrored, averaged=averaged)
    metadata = _metadata(model, data, runs[0].description()["torch"], name, version)
    try:
        # Compared as the network scores: calibrated, low scores lie too close together to tell differences.
        write_bundle(model.detector, metadata.model_copy(update={"calibration": None}), draft)
        _check_agreement(model.detector, Detector(draft), model.recipe, data.narrowed("val"))
        rewrite_metadata(draft, metadata, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return Detector(out)


def _single(run: RunFolder, dataset: Path | None, progress: Progress) -> _Model:
    detector = trained_detector(run)
    validated = write_validation(run, progress, dataset)
    return _Model(detector, (run.recipe(),), mirrored=False, averaged=False, validated=validated)


def _several(
    runs: Sequence[RunFolder], data: AnnotatedDataset, progress: Progress, *, mirrored: bool, averaged: bool
) -> _Model:
    recipes = tuple(run.recipe() for run in runs)
    for run, recipe in zip(runs[1:], recipes[1:], strict=True):
        if run.description()["data_fingerprint"] != runs[0].description()["data_fingerprint"]:
            raise TrainingError(
                f"{run.path} was trained on other data or another split than {runs[0].path}: one's validation images "
                "may be the other's training images; join runs of the same data set and split"
            )
        if recipe.detector.classes != recipes[0].detector.classes or recipe.input.crop != recipes[0].input.crop:
            raise TrainingError(
                f"{run.path} and {runs[0].path} differ in classes or crop: join runs whose recipes agree in both"
            )
    members = [averaged_detector(runs)] if averaged else [trained_detector(run) for run in runs]
    sizes = [(recipe.input.rows, recipe.input.columns) for recipe in recipes[: len(members)]]
    detector = members[0] if averaged and not mirrored else FusedDetector(members, sizes, mirrored=mirrored).eval()
    named_so = " and ".join(recipe.name for recipe in recipes) + (", with mirror images" if mirrored else "")
    try:
        validated = validate(detector, recipes[0].input.geometry, data.narrowed("val"), named_so, progress)
    except EvaluationError as error:
        raise TrainingError(
            f"the detectors in {', '.join(str(run.path) for run in runs)} together find no lesion on the validation "
            "images: train them longer"
        ) from error
    return _Model(detector, recipes, mirrored, averaged, validated)


def _metadata(
    model: _Model, data: AnnotatedDataset, torch_version: str, name: str | None, version: str | None
) -> BundleMetadata:
    recipe, metrics = model.recipe, model.validated.metrics
    return BundleMetadata(
        name=name or "-".join(("mammoscope", *(one.name for one in model.recipes))),
        version=version or f"{__version__}+{_hash_of(model)}",
        input=BundleInput(rows=recipe.input.rows, columns=recipe.input.columns, crop=recipe.input.crop),
        classes=recipe.detector.classes,
        operating_points=(
            OperatingPoint(
                name="default",
                threshold=metrics.threshold,
                rule=THRESHOLD_RULE,
                chosen_on=named(data.narrowed("val")),
            ),
        ),
        training_data=(_training_data(recipe, data),),
        figures=(as_figures(metrics),),
        calibration=model.validated.calibration,
        recipe=model.described(),
        known_data=_known_data(data, calibrated=model.validated.calibration is not None),
        made_with=f"mammoscope {__version__}, torch {torch_version}",
    )


def _known_data(data: AnnotatedDataset, *, calibrated: bool) -> tuple[KnownData, ...]:
    """Whom the network learnt from, and on whom its operating point was chosen and its scores were calibrated."""
    salt, validation = data.fingerprint(), data.narrowed("val")
    roles = (DataRole.CHOSEN, DataRole.CALIBRATED) if calibrated else (DataRole.CHOSEN,)
    return (
        known_data(DataRole.TRAINED, data.narrowed("train"), salt=salt),
        *(known_data(role, validation, salt=salt) for role in roles),
    )


def as_figures(metrics: Metrics) -> Figures:
    """An evaluation's figures as a bundle keeps them."""
    values = {
        "ap50": metrics.ap50,
        "ap20": metrics.ap20,
        "ap10": metrics.ap10,
        "ap50_95": metrics.ap50_95,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        **{f"froc_{fppi}": value for fppi, value in metrics.froc.items()},
        **{f"froc_iou20_{fppi}": value for fppi, value in metrics.froc_iou20.items()},
        "calibration_error": metrics.calibration_error,
    }
    return Figures(
        dataset=metrics.dataset,
        split=metrics.split,
        iou=metrics.iou,
        threshold_rule=metrics.threshold_rule,
        values={name: round(value, 4) for name, value in values.items() if value is not None},
        intervals={
            name: (round(interval[0], 4), round(interval[1], 4))
            for name, interval in metrics.intervals.items()
            if name in values
        },
    )


def _training_data(recipe: Recipe, data: AnnotatedDataset) -> TrainingData:
    learning = data.narrowed("train")
    return TrainingData(
        name=recipe.data.source,
        licence=recipe.data.licence,
        images=len(learning),
        patients=len(learning.patients),
        fingerprint=data.fingerprint(),
    )


def _hash_of(model: _Model) -> str:
    """Of all that decides what is found: weights, input, and how boxes are merged."""
    if len(model.recipes) == 1 and not model.mirrored:
        digest = hashlib.sha256(json.dumps(published_recipe(model.recipe)["detector"], sort_keys=True).encode())
    else:
        parts = [model.mirrored, *(published_recipe(recipe)["detector"] for recipe in model.recipes)]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for recipe in model.recipes:
        digest.update(recipe.input.model_dump_json().encode())
    for name, value in model.detector.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _check_agreement(detector: MassDetector, bundle: Detector, recipe: Recipe, data: AnnotatedDataset) -> None:
    """A bundle that reads otherwise than the network it came from must not leave the house."""
    for image in data.images[:_CHECKED_IMAGES]:
        mammogram = read_mammogram(image.path)
        expected = candidates(detector, recipe.input.geometry, mammogram)
        given = bundle.candidates(mammogram)
        lowest = recipe.detector.score_threshold
        if max(len(expected), len(given)) >= recipe.detector.max_detections:
            lowest = max(found[-1].score for found in (expected, given) if found)
        if not agree(expected, given, lowest):
            raise TrainingError(
                f"the bundle reads {image.name} otherwise than the network in torch and was not kept: report this "
                "with the versions of torch and onnxruntime"
            )


def agree(one: Sequence[Finding], other: Sequence[Finding], lowest: float) -> bool:
    """Whether each of either's findings has its like in the other: score within 0.01, box within half a pixel.

    Order does not count, as rounding turns near ties round; neither do scores within 0.01 of ``lowest``, below which
    nothing is proposed, whether by the threshold or because there are as many as may be.
    """
    return all(
        any(_alike(finding, candidate) for candidate in theirs)
        for ours, theirs in ((one, other), (other, one))
        for finding in ours
        if finding.score >= lowest + _SCORE_TOLERANCE
    )


def _alike(one: Finding, other: Finding) -> bool:
    return (
        one.label == other.label
        and abs(one.score - other.score) <= _SCORE_TOLERANCE
        and all(abs(a - b) <= _BOX_TOLERANCE for a, b in zip(one.box.as_tuple(), other.box.as_tuple(), strict=True))
    )
