"""All figures of one detector on one set of images, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mammoscope.evaluation.calibration import BINS, ReliabilityBin, calibration_error, reliability, shares_of_hits
from mammoscope.evaluation.matching import CENTRE, EvaluationError, ImageResult, Matches, match_by
from mammoscope.evaluation.metrics import (
    Floats,
    area_under_precision_recall,
    average_precision,
    bootstrap_weights,
    count_at,
    false_positives_per_image,
    interval_of,
    sensitivity_at,
)
from mammoscope.evaluation.roc import RatedUnits, Unit, rate, roc_auc
from mammoscope.evaluation.tide import ErrorFigures, ErrorKind, corrected_precision, count_errors

RESAMPLES = 2000
"""Bootstrap resamples where no number is given: ends of an interval of width 0.12 have a standard error of 0.002."""
FPPI = (0.25, 0.5, 1.0, 2.0)
"""False positives per image at which the sensitivity is given."""
IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The IoUs over which COCO averages AP."""
FROC_RULES: Mapping[str, float | None] = {"froc": 0.5, "froc_iou20": 0.2, "froc_iou10": 0.1, "froc_centre": CENTRE}
"""What a hit is, by the name of the FROC figures; that of ``froc`` is the evaluation's own."""
FROC_MEANS: Mapping[str, tuple[float, ...]] = {
    "mean": FPPI,
    "cpm": (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "camelyon16": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "dbtex": (1.0, 2.0, 3.0, 4.0),
}
"""Over which false positives per image the field averages sensitivity.

``cpm``: the competition performance metric of ANODE09 and LUNA16 (van Ginneken et al. 2010; Setio et al. 2017).
``camelyon16``: Ehteshami Bejnordi et al. 2017. ``dbtex``: the tomosynthesis challenge of Konz et al. 2023.
"""


class FigureSet:
    """The figures of one detector on one set of images; matching is done once.

    Parameters
    ----------
    results
        One an image.
    iou
        Least IoU of a hit for precision, recall, F1, ``froc`` and calibration.
    threshold
        The operating point.
    """

    def __init__(self, results: Sequence[ImageResult], iou: float, threshold: float) -> None:
        levels = tuple(dict.fromkeys((*IOUS, *FROC_RULES.values(), iou)))
        self._at: dict[float | None, Matches] = dict(zip(levels, match_by(results, levels), strict=True))
        self._iou, self._threshold = iou, threshold
        self.units: dict[Unit, RatedUnits] = {unit: rate(results, unit) for unit in Unit}

    @property
    def matches(self) -> Matches:
        """Matched at the evaluation's own IoU."""
        return self._at[self._iou]

    def figures(self, weights: Floats | None = None) -> dict[str, Floats]:
        """By name, each of shape (resamples,); NaN where undefined."""
        coco = [average_precision(self._at[level], weights) for level in IOUS]
        return {
            "ap50": coco[0],
            "ap20": average_precision(self._at[0.2], weights),
            "ap10": average_precision(self._at[0.1], weights),
            "ap50_95": np.mean(coco, axis=0),
            "ap50_area": area_under_precision_recall(self._at[0.5], weights),
            **self._at_the_operating_point(weights),
            **self._froc(weights),
            **{f"auc_{unit}": roc_auc(rated, weights) for unit, rated in self.units.items()},
            **{f"dap50_{kind}": gain for kind, gain in corrected_precision(self._at[0.5], weights).items()},
            "calibration_error": calibration_error(self.matches, weights),
            **{f"reliability_{n / BINS:g}": share for n, share in enumerate(shares_of_hits(self.matches, weights).T)},
        }

    def _at_the_operating_point(self, weights: Floats | None) -> dict[str, Floats]:
        counts = count_at(self.matches, self._threshold, weights)
        normal = self.matches.kept(images=self.matches.n_truth == 0)
        kinds = count_errors(self._at[0.5], self._threshold, weights)
        return {
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
            "true_positives": counts.true_positives,
            "false_positives": counts.false_positives,
            "false_negatives": counts.false_negatives,
            "fppi": false_positives_per_image(self.matches, self._threshold, weights),
            "fppi_without_boxes": false_positives_per_image(normal, self._threshold, weights),
            **{f"errors_{kind}": kinds[kind] for kind in ErrorKind},
        }

    def _froc(self, weights: Floats | None) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        points = sorted({x for convention in FROC_MEANS.values() for x in convention})
        for name, level in FROC_RULES.items():
            matches = self.matches if name == "froc" else self._at[level]
            sensitivity = dict(zip(points, sensitivity_at(matches, points, weights).T, strict=True))
            found |= {f"{name}_{x:g}": sensitivity[x] for x in FPPI}
            for convention, averaged in FROC_MEANS.items():
                found[f"{name}_{convention}"] = np.mean([sensitivity[x] for x in averaged], axis=0)
        return found


_NO_NORMALS = (
    "Every image holds at least one marked lesion: false positives per image are counted on images with a lesion and "
    "say nothing about normal mammograms."
)
_PLURAL = {Unit.IMAGE: "images", Unit.BREAST: "breasts", Unit.PATIENT: "patients"}


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
    fppi_without_boxes
        False positives per image over the images without a lesion, at ``threshold``.
    threshold_rule
        How the threshold came about, in words.
    froc, froc_iou20, froc_iou10, froc_centre
        Sensitivity by false positives per image (``"0.25"``), matched at ``iou``, at IoU 0.2 and 0.1, and with a hit
        where the candidate's centre lies in the lesion's box.
    froc_means
        Mean sensitivity by each of these rules (``"froc_iou20"``) and by each convention of `FROC_MEANS`.
    auc_image, auc_breast, auc_patient, auc_units
        Area under the ROC curve by the highest score of a unit, and how many units hold a lesion and how many do not.
    errors
        Kinds of error at IoU 0.5 by `ErrorKind`, as TIDE counts them; the interval of ``dap50`` is called
        ``dap50_missed`` and so on.
    calibration_error, reliability
        Expected calibration error of the candidates' scores, matched at ``iou``, and the bins it is made of.
    intervals
        95 % interval [low, high] by figure; those of ``froc`` are called ``froc_0.25``, of ``froc_means``
        ``froc_iou20_cpm``, of the counts of ``errors`` ``errors_missed``, of the share of hits in a bin of
        ``reliability`` ``reliability_0.3``. Percentiles of ``resamples`` bootstrap resamples over patients, drawn
        from ``seed``. A figure that is undefined has none.
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
    fppi_without_boxes: float | None
    threshold: float
    threshold_rule: str
    iou: float
    froc: Mapping[str, float | None]
    froc_iou20: Mapping[str, float | None]
    froc_iou10: Mapping[str, float | None]
    froc_centre: Mapping[str, float | None]
    froc_means: Mapping[str, Mapping[str, float | None]]
    auc_image: float | None
    auc_breast: float | None
    auc_patient: float | None
    auc_units: Mapping[str, tuple[int, int]]
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

    @property
    def froc_mean(self) -> float | None:
        """Mean of ``froc``."""
        return self.froc_means["froc"]["mean"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {field.name: _as_json(getattr(self, field.name)) for field in fields(self)}


def evaluate(
    results: Sequence[ImageResult],
    threshold: float,
    threshold_rule: str,
    *,
    iou: float = 0.5,
    resamples: int = RESAMPLES,
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
    figure_set = FigureSet(results, iou, threshold)
    n_patients = figure_set.matches.n_patients
    figure = {name: _or_none(values[0]) for name, values in figure_set.figures().items()}
    spread = figure_set.figures(bootstrap_weights(n_patients, resamples, seed)) if resamples else {}
    sensitivities = {rule: {f"{x:g}": figure[f"{rule}_{x:g}"] for x in FPPI} for rule in FROC_RULES}
    return Metrics(
        ap50=figure["ap50"],
        ap20=figure["ap20"],
        ap10=figure["ap10"],
        ap50_95=figure["ap50_95"],
        ap50_area=figure["ap50_area"],
        precision=figure["precision"],
        recall=figure["recall"],
        f1=figure["f1"],
        fppi=figure["fppi"] or 0.0,
        fppi_without_boxes=figure["fppi_without_boxes"],
        threshold=threshold,
        threshold_rule=threshold_rule,
        iou=iou,
        froc=sensitivities["froc"],
        froc_iou20=sensitivities["froc_iou20"],
        froc_iou10=sensitivities["froc_iou10"],
        froc_centre=sensitivities["froc_centre"],
        froc_means={rule: {name: figure[f"{rule}_{name}"] for name in FROC_MEANS} for rule in FROC_RULES},
        errors={
            kind.value: ErrorFigures(_whole(figure[f"errors_{kind}"]), figure[f"dap50_{kind}"]) for kind in ErrorKind
        },
        auc_image=figure["auc_image"],
        auc_breast=figure["auc_breast"],
        auc_patient=figure["auc_patient"],
        auc_units={unit.value: (rated.n_with, rated.n_without) for unit, rated in figure_set.units.items()},
        calibration_error=figure["calibration_error"],
        reliability=reliability(figure_set.matches),
        true_positives=_whole(figure["true_positives"]),
        false_positives=_whole(figure["false_positives"]),
        false_negatives=_whole(figure["false_negatives"]),
        n_images=len(results),
        n_boxes=sum(len(result.truth) for result in results),
        n_patients=n_patients,
        n_images_without_boxes=sum(not result.truth for result in results),
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
        note=" ".join(part for part in (note, *_notes(results, figure_set)) if part),
    )


def _notes(results: Sequence[ImageResult], figure_set: FigureSet) -> list[str]:
    """What the data leave unsaid: false positives on normal mammograms, ROC curves without normals."""
    notes = [] if any(not result.truth for result in results) else [_NO_NORMALS]
    undefined = [unit for unit, rated in figure_set.units.items() if not (rated.n_with and rated.n_without)]
    if undefined:
        *others, last = (_PLURAL[unit] for unit in undefined)
        named = f"{', '.join(others)} and {last}" if others else last
        notes.append(f"There is no ROC AUC over {named}: it takes some with a marked lesion and some without.")
    sideless = sum(result.laterality is None for result in results)
    if sideless:
        are, belong = ("image is", "belongs") if sideless == 1 else ("images are", "belong")
        notes.append(f"{sideless} {are} of an unknown side and {belong} to no breast.")
    return notes


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, ErrorFigures | ReliabilityBin):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _as_json(part) for name, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, tuple) else value


def _whole(value: float | None) -> int:
    return 0 if value is None else round(value)
