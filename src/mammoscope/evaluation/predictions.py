"""What an evaluation leaves beside its figures, and reads back: each image's truth, facts and candidates.

``cases.json`` is a COCO file of the images that were evaluated, ``predictions.json`` COCO's results format; any COCO
tool takes the two. So figures can be compared, split up and drawn without the images.

What a data set says about an image and its lesions, in words that figures can be split by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mammoscope.datasets import AnnotatedImage, DatasetError, read_coco
from mammoscope.datasets.coco import CocoDocument, CocoImage
from mammoscope.datasets.files import read_json
from mammoscope.evaluation.matching import EvaluationError, ImageResult
from mammoscope.findings import Box, Finding
from mammoscope.imaging import BreastExtent
from mammoscope.inference import BundleMetadata, Calibration, KnownData

UNKNOWN = "unknown"
"""The value of an attribute that an image or a lesion does not have."""

_OF_THE_FORMAT = {  # keys that COCO or the import defines: names and places of things, not what they are like
    "id", "image_id", "category_id", "file_name", "height", "width", "license", "flickr_url", "coco_url",
    "date_captured", "patient_id", "study_id", "split", "review", "area", "iscrowd", "bbox", "segmentation",
}  # fmt: skip


def attributes_of(image: AnnotatedImage) -> tuple[dict[str, str], tuple[dict[str, str], ...]]:
    """The attributes of an image, and of each of its boxes.

    Any COCO key of the image or annotation entry that holds a text, a number or a truth value is one, and any within
    its ``attributes``, where annotation tools put them. Laterality and view are always there, and each box's label.
    """
    own = {
        "laterality": str(image.laterality or UNKNOWN),
        "view": str(image.view or UNKNOWN),
    }
    facts = image.box_facts or ({},) * len(image.boxes)
    boxes = tuple({**_plain(fact), "label": label} for fact, label in zip(facts, image.labels, strict=True))
    return {**_plain(image.facts), **own}, boxes


def _plain(facts: Mapping[str, Any]) -> dict[str, str]:
    nested = facts.get("attributes")
    found = {**facts, **(nested if isinstance(nested, dict) else {})}
    return {
        key: str(value)
        for key, value in found.items()
        if key not in _OF_THE_FORMAT and isinstance(value, str | int | float) and str(value).strip()
    }


METRICS, CASES, PREDICTIONS = "metrics.json", "cases.json", "predictions.json"
"""The files of a report's folder that hold figures, truth and candidates."""
Attributes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One image of an evaluation with what is known about it.

    Parameters
    ----------
    rows, columns
        Size of the image in pixels.
    attributes
        Of the image: view, density, scanner, whatever its data set says.
    box_attributes
        Of each lesion of ``result.truth``, its label among them.
    picture
        The drawn case, relative to the report's folder, or ``None``.
    study
        Of which examination the image is, where its data set says so.
    extent
        Where the breast lies, of a CC or MLO view of a whole breast; ``None`` where that was not looked for.
    scores_alone
        Of each of the result's candidates, its score as read from this view alone; empty where that is its score.
    """

    result: ImageResult
    file_name: str
    rows: int
    columns: int
    attributes: Attributes = field(default_factory=dict)
    box_attributes: tuple[Attributes, ...] = ()
    picture: str | None = None
    study: str | None = None
    extent: BreastExtent | None = None
    scores_alone: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.scores_alone and len(self.scores_alone) != len(self.result.candidates):
            raise ValueError(f"image {self.result.image_id} has not as many scores as candidates")
        if len(self.box_attributes) != len(self.result.truth):
            raise ValueError(
                f"image {self.result.image_id} has {len(self.result.truth)} lesions and attributes of "
                f"{len(self.box_attributes)}"
            )

    @property
    def alone(self) -> "Case":
        """The same with the candidates' scores as read from this view alone, by falling score."""
        if not self.scores_alone:
            return self
        found = (
            replace(finding, score=score)
            for finding, score in zip(self.result.candidates, self.scores_alone, strict=True)
        )
        ordered = tuple(sorted(found, key=lambda finding: finding.score, reverse=True))
        return replace(self, result=replace(self.result, candidates=ordered), scores_alone=())


def case_of(
    image: AnnotatedImage,
    candidates: tuple[Finding, ...],
    *,
    unreadable: str | None = None,
    picture: str | None = None,
    extent: BreastExtent | None = None,
) -> Case:
    """A data set's image with what a detector proposed on it.

    Parameters
    ----------
    unreadable
        Why the image could not be read, or ``None``.
    picture, extent
        As of `Case`.
    """
    side = None if image.laterality is None else str(image.laterality)
    result = ImageResult(image.id, image.patient, image.boxes, candidates, image.crowds, unreadable, side)
    name = image.facts.get("file_name", image.name)
    study = image.facts.get("study_id")
    return Case(
        result,
        name,
        image.rows,
        image.columns,
        *attributes_of(image),
        picture=picture,
        study=None if study is None else str(study),
        extent=extent,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What `mammoscope evaluate` left in a folder; ``metrics`` is metrics.json as it stands."""

    folder: Path
    metrics: Mapping[str, Any]
    cases: tuple[Case, ...]

    @property
    def results(self) -> list[ImageResult]:
        """The images' truth and candidates."""
        return [case.result for case in self.cases]

    @property
    def results_alone(self) -> list[ImageResult]:
        """The same with the scores of each view read by itself."""
        return [case.alone.result for case in self.cases]


def cases_to_coco(cases: Sequence[Case], category_ids: Mapping[str, int]) -> dict[str, Any]:
    """The content of ``cases.json``.

    Parameters
    ----------
    category_ids
        COCO category id by label; a box's label is its attribute ``label``.
    """
    marks = [
        (case, box, attributes, crowd)
        for case in cases
        for crowd, boxes, facts in (
            (0, case.result.truth, case.box_attributes),
            (1, case.result.crowds, ({},) * len(case.result.crowds)),
        )
        for box, attributes in zip(boxes, facts, strict=True)
    ]
    any_category = min(category_ids.values(), default=1)
    return {
        "categories": [{"id": category_id, "name": label} for label, category_id in category_ids.items()],
        "images": [
            {
                "id": case.result.image_id,
                "file_name": case.file_name,
                "height": case.rows,
                "width": case.columns,
                "patient_id": case.result.patient,
                "attributes": dict(case.attributes),
                "picture": case.picture,
                "unreadable": case.result.unreadable,
                "study_id": case.study,
                "breast_extent": case.extent and [case.extent.nipple, case.extent.chest_wall],
            }
            for case in cases
        ],
        "annotations": [
            {
                "id": number,
                "image_id": case.result.image_id,
                "category_id": category_ids.get(attributes.get("label", ""), any_category),
                "bbox": list(box.as_xywh()),
                "area": box.area,
                "iscrowd": crowd,
                "attributes": dict(attributes),
            }
            for number, (case, box, attributes, crowd) in enumerate(marks, start=1)
        ],
    }


def predictions_to_coco(cases: Sequence[Case], category_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The content of ``predictions.json``: what `pycocotools.coco.COCO.loadRes` takes, and label, file, patient."""
    by_label = {label.lower(): category_id for label, category_id in category_ids.items()}
    only = min(by_label.values(), default=1)  # the class of a model whose label the data set does not know
    return [
        {
            "image_id": case.result.image_id,
            "category_id": by_label.get(finding.label.lower(), only),
            "bbox": [float(value) for value in finding.box.as_xywh()],
            "score": float(finding.score),
            "label": finding.label,
            "file_name": case.file_name,
            "patient_id": case.result.patient,
            **({"score_alone": case.scores_alone[place]} if case.scores_alone else {}),
        }
        for case in cases
        for place, finding in enumerate(case.result.candidates)
    ]


def report_folder(folder: Path) -> Path:
    """The report's folder: itself, or ``validation`` in the folder of a run."""
    inside = folder / "validation"
    return inside if (inside / METRICS).is_file() and not (folder / METRICS).is_file() else folder


def read_report(folder: Path) -> Report:
    """The figures, truth and candidates that `mammoscope evaluate` left in a folder.

    Raises
    ------
    EvaluationError
        If one of its files is missing, or is not what an evaluation writes.
    """
    for name in (METRICS, CASES, PREDICTIONS):
        if not (folder / name).is_file():
            raise EvaluationError(
                f"{folder} is not a report's folder: it has no {name}; make one with 'mammoscope evaluate --out'."
            )
    try:
        document = read_coco(folder / CASES)
        metrics, predictions = read_json(folder / METRICS), read_json(folder / PREDICTIONS)
        cases = _cases(document, predictions)
        float(metrics["threshold"])
        dict(metrics["froc_means"])
        dict(metrics["intervals"])
        _check_of_the_model(metrics)
    except DatasetError as error:
        raise EvaluationError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EvaluationError(
            f"the report in {folder} does not hold what this version writes: run 'mammoscope evaluate' again."
        ) from None
    return Report(folder, metrics, cases)


def _check_of_the_model(metrics: Mapping[str, Any]) -> None:
    """Raise `ValueError` where what is said of the bundle cannot be read back."""
    if bundle := metrics.get("bundle"):
        BundleMetadata.model_validate(bundle)
    elif calibration := metrics.get("calibration"):
        Calibration.model_validate(calibration)
    for known in metrics.get("known_data") or ():
        KnownData.model_validate(known)


def _cases(document: CocoDocument, predictions: Any) -> tuple[Case, ...]:
    candidates: dict[int, list[Finding]] = {image.id: [] for image in document.images}
    alone: dict[int, list[float]] = {image.id: [] for image in document.images}
    for entry in predictions:
        box = Box.from_xywh(*entry["bbox"])
        candidates[entry["image_id"]].append(Finding(box, entry["score"], entry["label"]))
        if "score_alone" in entry:
            alone[entry["image_id"]].append(float(entry["score_alone"]))
    return tuple(_case(image, tuple(candidates[image.id]), tuple(alone[image.id])) for image in document.images)


def _case(image: CocoImage, candidates: tuple[Finding, ...], alone: tuple[float, ...]) -> Case:
    lesions = [annotation for annotation in image.annotations if not annotation.crowd]
    return Case(
        result=ImageResult(
            image_id=image.id,
            patient=image.facts["patient_id"],
            truth=tuple(annotation.box for annotation in lesions),
            candidates=candidates,
            crowds=tuple(annotation.box for annotation in image.annotations if annotation.crowd),
            unreadable=image.facts["unreadable"],
            laterality=None if (side := image.facts["attributes"].get("laterality", UNKNOWN)) == UNKNOWN else side,
        ),
        file_name=image.file_name,
        rows=int(image.rows or 0),
        columns=int(image.columns or 0),
        attributes=image.facts["attributes"],
        box_attributes=tuple(annotation.facts["attributes"] for annotation in lesions),
        picture=image.facts["picture"],
        study=image.facts.get("study_id"),
        extent=BreastExtent(*extent) if (extent := image.facts.get("breast_extent")) else None,
        scores_alone=alone,
    )
