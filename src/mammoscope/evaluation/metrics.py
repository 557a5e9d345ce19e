"""All figures of one detector on one set of images, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mammoscope.evaluation.calibration import ReliabilityBin, calibration_error, reliability
from mammoscope.evaluation.error_kinds import ErrorFigures, ErrorKind, count_errors, mended_precision
from mammoscope.evaluation.errors import EvaluationError
from mammoscope.evaluation.figures import (
    Floats,
    area_under_precision_recall,
    average_precision,
    count_at,
    sensitivity_at,
)
from mammoscope.evaluation.matching import CENTRE, ImageResult, Matches, match_by

FPPI = (0.25, 0.5, 1.0, 2.0)
"""False positives per image at which the sensitivity is given."""
IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The IoUs over which COCO averages AP."""
_LEVEL = (2.5, 97.5)
_NO_NORMALS = (
    "Every image holds at least one marked lesion: false positives per image are counted on images with a lesion and "
    "say nothing about normal mammograms."
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures; `docs/evaluation.md` defines each.

    A figure that is undefined (precision without findings, anything about lesions without lesions) is ``None``.

    Parameters
    ----------
    ap50, ap20, ap10
        COCO's 101-point AP with at most 100 candidates an image, at IoU 0.5, 0.2 and 0.1.
    ap50_95
        Mean of COCO's AP over the IoUs 0.5, 0.55, ..., 0.95.
    ap50_area
        AP at IoU 0.5 as `area_under_precision_recall`, the paper's equation 4.
    precision, recall, f1, fppi, true_positives, false_positives, false_negatives
        At ``threshold``, matched at ``iou``.
    threshold_rule
        How the threshold came about, in words.
    froc, froc_iou20, froc_centre
        Sensitivity by false positives per image (``"0.25"``), matched at ``iou``, at IoU 0.2, and with a hit where the
        candidate's centre lies in the lesion's box.
    froc_mean, froc_iou20_mean, froc_centre_mean
        Mean sensitivity over those points.
    errors
        Kinds of error at IoU 0.5 by `ErrorKind`, as TIDE counts them; the interval of ``dap50`` is called
        ``dap50_missed`` and so on.
    calibration_error, reliability
        Expected calibration error of the candidates' scores, matched at ``iou``, and the bins it is made of.
    intervals
        95 % interval [low, high] by figure; those of ``froc`` are called ``froc_0.25``, of ``froc_iou20``
        ``froc_iou20_0.25``. Percentiles of ``resamples`` bootstrap resamples over patients, drawn from ``seed``. A
        figure that is undefined has none.
    note
        What a reader of the figures has to know.
    """

    ap50: float | None
    ap20: float | None
    ap10: float | None
    ap50_95: float | None
    ap50_area: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    fppi: float
    threshold: float
    threshold_rule: str
    iou: float
    froc: Mapping[str, float | None]
    froc_iou20: Mapping[str, float | None]
    froc_centre: Mapping[str, float | None]
    froc_mean: float | None
    froc_iou20_mean: float | None
    froc_centre_mean: float | None
    errors: Mapping[str, ErrorFigures]
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...]
    true_positives: int
    false_positives: int
    false_negatives: int
    n_images: int
    n_boxes: int
    n_patients: int
    n_images_without_boxes: int
    n_unreadable: int
    intervals: Mapping[str, tuple[float, float]]
    resamples: int
    seed: int
    dataset: str
    split: str | None
    dataset_fingerprint: str | None
    model: str
    model_version: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {field.name: _as_json(getattr(self, field.name)) for field in fields(self)}


def evaluate(
    results: Sequence[ImageResult],
    threshold: float,
    threshold_rule: str,
    *,
    iou: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    dataset: str = "",
    split: str | None = None,
    dataset_fingerprint: str | None = None,
    model: str = "",
    model_version: str = "",
    note: str = "",
) -> Metrics:
    """All figures of a detector on a set of images.

    Parameters
    ----------
    results
        One an image; an unreadable image is there too, without candidates.
    threshold
        The operating point; choose it on validation (`choose_threshold`), never on the images evaluated here.
    iou
        Least IoU of a hit for precision, recall, F1 and ``froc``.
    resamples
        Bootstrap resamples over patients; 0 for no intervals.
    note
        Put before what is noted on the figures anyway.

    Raises
    ------
    EvaluationError
        If there is no image, an image is there twice, or the threshold is not a number.
    """
    if not math.isfinite(threshold):
        raise EvaluationError(f"the threshold must be a number, not {threshold}.")
    levels = tuple(dict.fromkeys((*IOUS, 0.2, 0.1, CENTRE, iou)))
    at = dict(zip(levels, match_by(results, levels), strict=True))
    n_patients = at[iou].n_patients

    def figures(weights: Floats) -> dict[str, Floats]:
        return _figures(at, iou, threshold, weights)

    figure = {name: _or_none(values[0]) for name, values in figures(np.ones((1, n_patients))).items()}
    spread = figures(bootstrap_weights(n_patients, resamples, seed)) if resamples else {}
    counts = count_at(at[iou], threshold)
    without_boxes = sum(not result.truth for result in results)
    return Metrics(
        ap50=figure["ap50"],
        ap20=figure["ap20"],
        ap10=figure["ap10"],
        ap50_95=figure["ap50_95"],
        ap50_area=figure["ap50_area"],
        precision=figure["precision"],
        recall=figure["recall"],
        f1=figure["f1"],
        froc_mean=figure["froc_mean"],
        froc_iou20_mean=figure["froc_iou20_mean"],
        froc_centre_mean=figure["froc_centre_mean"],
        fppi=float(counts.false_positives[0]) / len(results),
        threshold=threshold,
        threshold_rule=threshold_rule,
        iou=iou,
        froc={_key(x): figure[f"froc_{_key(x)}"] for x in FPPI},
        froc_iou20={_key(x): figure[f"froc_iou20_{_key(x)}"] for x in FPPI},
        froc_centre={_key(x): figure[f"froc_centre_{_key(x)}"] for x in FPPI},
        errors={
            kind.value: ErrorFigures(count, figure[f"dap50_{kind}"])
            for kind, count in count_errors(at[0.5], threshold).items()
        },
        calibration_error=figure["calibration_error"],
        reliability=reliability(at[iou]),
        true_positives=int(counts.true_positives[0]),
        false_positives=int(counts.false_positives[0]),
        false_negatives=int(counts.false_negatives[0]),
        n_images=len(results),
        n_boxes=sum(len(result.truth) for result in results),
        n_patients=n_patients,
        n_images_without_boxes=without_boxes,
        n_unreadable=sum(result.unreadable is not None for result in results),
        intervals={
            name: interval
            for name, values in spread.items()
            if figure[name] is not None and (interval := interval_of(values)) is not None
        },
        resamples=resamples,
        seed=seed,
        dataset=dataset,
        split=split,
        dataset_fingerprint=dataset_fingerprint,
        model=model,
        model_version=model_version,
        note=" ".join(part for part in (note, "" if without_boxes else _NO_NORMALS) if part),
    )


def _figures(at: Mapping[float | None, Matches], iou: float, threshold: float, weights: Floats) -> dict[str, Floats]:
    """Every figure that gets an interval, each of shape (resamples,)."""
    counts = count_at(at[iou], threshold, weights)
    coco = [average_precision(at[level], weights) for level in IOUS]
    found = {
        "ap50": coco[0],
        "ap20": average_precision(at[0.2], weights),
        "ap10": average_precision(at[0.1], weights),
        "ap50_95": np.mean(coco, axis=0),
        "ap50_area": area_under_precision_recall(at[0.5], weights),
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }
    for name, level in (("froc", iou), ("froc_iou20", 0.2), ("froc_centre", CENTRE)):
        sensitivity = sensitivity_at(at[level], FPPI, weights)
        found |= {f"{name}_{_key(x)}": sensitivity[:, index] for index, x in enumerate(FPPI)}
        found[f"{name}_mean"] = sensitivity.mean(axis=1)
    gains = mended_precision(at[0.5], weights)
    found |= {f"dap50_{kind}": gains[kind] for kind in ErrorKind}
    found["calibration_error"] = calibration_error(at[iou], weights)
    return found


def bootstrap_weights(n_patients: int, resamples: int, seed: int) -> Floats:
    """How often each patient was drawn, shape (resamples, patients)."""
    drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    return drawn.astype(np.float64)


def interval_of(values: Floats) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of what is defined among the resamples' values; ``None`` where nothing is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, _LEVEL)
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, ErrorFigures | ReliabilityBin):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _as_json(part) for name, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, tuple) else value


def _key(fppi: float) -> str:
    return f"{fppi:g}"
