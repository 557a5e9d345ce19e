"""Making scores probabilities: a curve fitted on validation, and results with the scores that it gives."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mammoscope.evaluation.logistic import least_log_loss, soft_targets
from mammoscope.evaluation.matching import EvaluationError, ImageResult, match
from mammoscope.evaluation.metrics import Floats
from mammoscope.evaluation.predictions import Report
from mammoscope.evaluation.two_views import fit_two_views
from mammoscope.inference import BundleMetadata, Calibration, DataRole, KnownData, log_odds

_VERSION_ENDING = ".calibrated-"


def fit_calibration(results: Sequence[ImageResult], iou: float = 0.5, *, fitted_on: str = "") -> Calibration | None:
    """The curve from score to probability of a hit with the least log-loss over all candidates of these images.

    A hit is what precision counts: IoU of ``iou`` or more with a lesion that no candidate with a higher score took.
    So the mean probability of the marks shown estimates their precision. Targets are `soft_targets`.

    Parameters
    ----------
    results
        With a network's own scores; of validation, not of the images that the network learned from.
    fitted_on
        The images, in words.

    Returns
    -------
    Calibration or None
        ``None`` where nothing can be learned: only hits, none, or hits that score no higher than the others.
    """
    matches = match(results, iou)
    if matches.hit.all() or not matches.hit.any():
        return None
    scores = log_odds(matches.score)
    curve = least_log_loss(np.stack([scores, np.ones_like(scores)], axis=1), soft_targets(matches.hit))
    slope, intercept = curve.tolist()
    if slope <= 0:
        return None
    rule = f"a mark with that score hits a lesion (IoU {iou:g} or more)"
    return Calibration(slope=slope, intercept=intercept, rule=rule, fitted_on=fitted_on)


def calibrated(results: Sequence[ImageResult], calibration: Calibration | None) -> list[ImageResult]:
    """The same results with probabilities in place of the network's scores; as they are for ``None``."""
    if calibration is None:
        return list(results)
    return [_rescored(result, calibration.probability) for result in results]


def uncalibrated(results: Sequence[ImageResult], calibration: Calibration | None) -> list[ImageResult]:
    """The same results with the network's scores in place of probabilities; as they are for ``None``."""
    if calibration is None:
        return list(results)
    return [_rescored(result, calibration.score) for result in results]


def _rescored(result: ImageResult, curve: Callable[[Floats], Floats]) -> ImageResult:
    scores = curve(np.array([finding.score for finding in result.candidates], np.float64)).tolist()
    found = tuple(replace(finding, score=score) for finding, score in zip(result.candidates, scores, strict=True))
    return replace(result, candidates=found)


def recalibrated_metadata(report: Report, metadata: BundleMetadata, known: Sequence[KnownData] = ()) -> BundleMetadata:
    """A bundle's metadata with a calibration fitted on a report of it; every threshold lets through what it did.

    How two views of a breast are read together is fitted anew, too, or left out where the report does not teach it.
    The version gets an ending of its own: a model that gives other scores must not pass for this one.

    Parameters
    ----------
    known
        The data that the bundle knows; the report's take the place of those that it was calibrated on.

    Raises
    ------
    EvaluationError
        If the report is of another model or version, or nothing can be learned from it.
    """
    of = (report.metrics["model"], report.metrics["model_version"])
    if of != (metadata.name, metadata.version):
        raise EvaluationError(
            f"the report in {report.folder} is of {' '.join(of)}, not of {metadata.name} {metadata.version}: evaluate "
            "this bundle first."
        )
    split = f", split {report.metrics['split']}" if report.metrics["split"] else ""
    told = f"{report.metrics['dataset']}{split}, {report.metrics['n_images']} images of"
    raw = uncalibrated(report.results_alone, metadata.calibration)
    fitted_on = f"{told} {report.metrics['n_patients']} patients"
    calibration = fit_calibration(raw, fitted_on=fitted_on)
    if calibration is None:
        raise EvaluationError(
            f"the report in {report.folder} teaches no calibration: its hits score no higher than its other candidates."
        )
    two_views = None
    if metadata.two_views is not None:  # its weights are for scores on the old scale
        alone = [
            replace(case.alone, result=result)
            for case, result in zip(report.cases, calibrated(raw, calibration), strict=True)
        ]
        two_views = fit_two_views(alone, fitted_on=fitted_on)
    stated = calibration.model_dump_json() + (two_views.model_dump_json() if two_views else "")
    ending = hashlib.sha256(stated.encode()).hexdigest()[:6]
    version = metadata.version.partition(_VERSION_ENDING)[0]
    return metadata.model_copy(
        update={
            "version": f"{version}{_VERSION_ENDING}{ending}",
            "calibration": calibration,
            "two_views": two_views,
            "known_data": (
                *(one for one in known if one.role is not DataRole.CALIBRATED),
                _calibrated_on(report, fitted_on),
            ),
            "operating_points": tuple(
                point.model_copy(update={"threshold": _moved(point.threshold, metadata.calibration, calibration)})
                for point in metadata.operating_points
            ),
        }
    )


def _calibrated_on(report: Report, fitted_on: str) -> KnownData:
    """The patients of a report, and its images where the report kept their hashes."""
    for stored in report.metrics.get("known_data") or ():
        return KnownData.model_validate(stored).model_copy(update={"role": DataRole.CALIBRATED, "data": fitted_on})
    patients = {result.patient for result in report.results}
    return KnownData.of(DataRole.CALIBRATED, fitted_on, patients, salt=str(report.metrics["dataset_fingerprint"]))


def _moved(threshold: float, before: Calibration | None, after: Calibration) -> float:
    score = np.array([threshold]) if before is None else before.score(np.array([threshold]))
    return float(after.probability(score)[0])
