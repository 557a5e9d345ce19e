"""Evaluating and comparing from Python: what `mammoscope.evaluate` and `mammoscope.compare` are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoscope.datasets import AnnotatedDataset
from mammoscope.evaluation.comparison import (
    Difference,
    FigureTable,
    TableFormat,
    comparison_json,
    differences_table,
    figures_table,
    paired_differences,
)
from mammoscope.evaluation.data_overlap import Overlap
from mammoscope.evaluation.evaluator import RESAMPLES, Metrics
from mammoscope.evaluation.matching import EvaluationError, ImageResult
from mammoscope.evaluation.metrics import choose_threshold, interval_text
from mammoscope.evaluation.prediction_files import PixelSpace, predictions_of
from mammoscope.evaluation.predictions import Report
from mammoscope.evaluation.reports.chart_files import Drawing
from mammoscope.evaluation.reports.charts import Curve, curve_charts
from mammoscope.evaluation.reports.markdown import decisive_figures, named_figures
from mammoscope.evaluation.run import (
    DEFAULT_GROUPS,
    CandidateSource,
    DetectorSource,
    Evaluated,
    EvaluationOptions,
    PredictionSource,
    evaluate_source,
    write_evaluated,
)
from mammoscope.evaluation.subgroups import Subgroup
from mammoscope.inference import Detector

if TYPE_CHECKING:
    import pandas


class Evaluation:
    """How good a detector is on a data set; made by `evaluate`."""

    def __init__(self, evaluated: Evaluated) -> None:
        self._evaluated = evaluated
        self._named = {key: (name, value) for name, value, key in named_figures(evaluated.metrics.to_json())}

    @property
    def metrics(self) -> Metrics:
        """All figures; ``docs/evaluation.md`` defines each."""
        return self._evaluated.metrics

    @property
    def name(self) -> str:
        """The model's name."""
        return self.metrics.model

    @property
    def ap50(self) -> float | None:
        """COCO's average precision at IoU 0.5; ``None`` where there is no lesion."""
        return self.metrics.ap50

    @property
    def ap20(self) -> float | None:
        """The same at IoU 0.2."""
        return self.metrics.ap20

    @property
    def precision(self) -> float | None:
        """Share of the findings at the threshold that hit a lesion; ``None`` where there is no finding."""
        return self.metrics.precision

    @property
    def recall(self) -> float | None:
        """Share of the lesions that are hit at the threshold; ``None`` where there is no lesion."""
        return self.metrics.recall

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall at the threshold."""
        return self.metrics.f1

    @property
    def threshold(self) -> float:
        """The operating point: findings with that score or more count."""
        return self.metrics.threshold

    @property
    def note(self) -> str:
        """What a reader of the figures has to know: known data, missing predictions, data without normals."""
        return self.metrics.note

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """Patients and images that the model knows already, by what it did with them."""
        return self._evaluated.overlaps

    @property
    def subgroups(self) -> tuple[Subgroup, ...]:
        """Figures by the values of the attributes that were asked for."""
        return self._evaluated.subgroups

    @property
    def results(self) -> list[ImageResult]:
        """Truth and candidates of each image."""
        return [case.result for case in self._evaluated.cases]

    def interval(self, figure: str) -> tuple[float, float] | None:
        """The 95 % bootstrap interval over patients of a figure, ``None`` where it is undefined.

        Parameters
        ----------
        figure
            As in ``metrics.json``: ``"ap50"``, ``"f1"``, ``"froc_1"``, ``"froc_iou20_cpm"``, ...

        Raises
        ------
        EvaluationError
            If there is no such figure.
        """
        if figure not in self._named and figure not in self.metrics.intervals:
            raise EvaluationError(f"there is no figure {figure!r}; there are {', '.join(self._named)}.")
        return self.metrics.intervals.get(figure)

    def froc(self, iou: float = 0.5) -> Curve:
        """Sensitivity (``y``) over false positives per image (``x``), with 95 % intervals where they were taken.

        Parameters
        ----------
        iou
            Least IoU of a hit.

        Returns
        -------
        Curve
            ``x`` and ``y`` of shape (points,); ``band_x``, ``low``, ``high`` of shape (97,), empty without resamples.
        """
        return curve_charts(self.results, iou, self.metrics.resamples, self.metrics.seed)[0].curves[0]

    def plot_froc(self) -> Drawing:
        """The FROC curves by each rule of a hit; a notebook shows it, `Drawing.save` writes SVG, PDF or CSV."""
        return Drawing(self._charts()[0])

    def plot_precision_recall(self) -> Drawing:
        """Precision over recall, likewise."""
        return Drawing(self._charts()[1])

    def _charts(self) -> Any:
        m = self.metrics
        return curve_charts(self.results, m.iou, m.resamples, m.seed)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``metrics.json``: plain JSON types."""
        return self._evaluated.to_json()

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a figure: ``figure``, ``value``, ``low``, ``high``, by key. Needs pandas."""
        from mammoscope.datasets.dataset import needs_pandas

        rows = [
            (key, name, value, *(self.metrics.intervals.get(key) or (None, None)))
            for key, (name, value) in self._named.items()
        ]
        frame = needs_pandas().DataFrame(rows, columns=["key", "figure", "value", "low", "high"])
        return frame.set_index("key")

    def save(self, folder: str | Path) -> Path:
        """Write the report's folder, as ``mammoscope evaluate`` does, without pictures; ``mammoscope report`` reads it.

        Raises
        ------
        MammoscopeError
            If it cannot be written.
        """
        write_evaluated(Path(folder), self._evaluated)
        return Path(folder)

    def __repr__(self) -> str:
        m = self.metrics
        shown = ", ".join(f"{name} {_shown(value)}" for name, value, _ in decisive_figures(m.to_json())[:4])
        return f"<Evaluation of {m.model or 'predictions'} on {m.dataset}, {m.n_images} images: {shown}>"

    def _repr_html_(self) -> str:
        m = self.metrics
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{_shown(value)}</td>"
            f"<td>{interval_text(m.intervals.get(key), m.resamples)}</td></tr>"
            for name, value, key in decisive_figures(m.to_json())
        )
        split = f", split {escape(m.split)}" if m.split else ""
        return (
            f"<table><caption>{escape(m.model or 'predictions')} on {escape(m.dataset)}{split}: {m.n_images} images, "
            f"{m.n_boxes} boxes, {m.n_patients} patients; threshold {m.threshold:.4g} ({escape(m.threshold_rule)})."
            f"<br>{escape(m.note)}</caption><thead><tr><th>figure</th><th>value</th><th>95 % interval</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def _as_report(self) -> Report:
        return Report(Path(self.name or "predictions"), self.to_dict(), self._evaluated.cases)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def evaluate(
    predictions: Any,
    data: AnnotatedDataset,
    *,
    name: str | None = None,
    threshold: float | None = None,
    validation: tuple[Any, AnnotatedDataset] | None = None,
    pixels: PixelSpace | None = None,
    classes: Mapping[str, str] | None = None,
    by: Sequence[str] = DEFAULT_GROUPS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    count_unannotated: bool = False,
) -> Evaluation:
    """Evaluate predictions of any program, or a detector of ours, on a data set.

    Parameters
    ----------
    predictions
        A `mammoscope.Detector`, which then reads every image; a file (COCO results, Ultralytics' JSON, CSV, Parquet);
        a pandas or polars table or a list of COCO results; or a mapping from image (file name or id) to a
        `mammoscope.Reading`, supervision's ``Detections``, or an array of shape (n, 5) or (n, 6): x0, y0, x1, y1, score
        and maybe class.
    data
        The annotated mammograms; a split of them as ``data.split("test")``.
    name
        What to call the model.
    threshold
        The operating point; ``None`` for the detector's own, the one chosen on ``validation``, or 0.5.
    validation
        (predictions, data set) on which the threshold with the highest F1 is chosen.
    pixels
        The pixels that boxes are in; ``None`` for the mammograms' own.
    classes
        The data set's label by the predictions' class; ``"-"`` leaves a class out.
    by
        Attributes of images or lesions that figures are split by.
    resamples, seed
        Of the bootstrap over patients; 0 resamples for no intervals.
    count_unannotated
        Count images that nobody annotated as images without a lesion, instead of setting them aside.

    Returns
    -------
    Evaluation
        Figures with intervals, curves, subgroups.

    Raises
    ------
    EvaluationError
        If the predictions are not of these images, or not predictions at all.

    Examples
    --------
    >>> import numpy as np
    >>> found = {image.id: np.array([[*box.as_tuple(), 0.9] for box in image.boxes]) for image in data}
    >>> result = evaluate(found, data, threshold=0.5, resamples=100)
    >>> result.ap50, result.interval("ap50")
    (1.0, (1.0, 1.0))
    """
    source = _source(predictions, data, name, pixels, classes)
    rule = "given"
    if validation is not None:
        if threshold is not None:
            raise EvaluationError("give either threshold or validation.")
        their_predictions, images = validation
        chosen_on = _source(their_predictions, images, name, pixels, classes)
        quick = EvaluationOptions(groups=(), resamples=0, count_unannotated=count_unannotated)
        results = evaluate_source(chosen_on, images, quick).cases
        threshold = choose_threshold([case.result for case in results])
        split = f", split {images.split_name}" if images.split_name else ""
        rule = f"highest F1 on {images.name}{split}, IoU 0.5"
    options = EvaluationOptions(
        threshold=threshold,
        threshold_rule=rule,
        groups=tuple(by),
        resamples=resamples,
        seed=seed,
        count_unannotated=count_unannotated,
    )
    return Evaluation(evaluate_source(source, data, options))


def _source(
    predictions: Any,
    data: AnnotatedDataset,
    name: str | None,
    pixels: PixelSpace | None,
    classes: Mapping[str, str] | None,
) -> CandidateSource:
    if isinstance(predictions, Detector):
        return DetectorSource(predictions)
    named = name or (Path(predictions).stem if isinstance(predictions, str | Path) else "predictions")
    return PredictionSource(predictions_of(predictions, data, pixels=pixels, classes=classes), named)


@dataclass(frozen=True)
class Comparison:
    """Models side by side on the same images; made by `compare`.

    Parameters
    ----------
    evaluations
        The first is compared with.
    differences
        AP50 and F1 minus the first's, by model; the paired bootstrap over patients.
    """

    evaluations: tuple[Evaluation, ...]
    differences: Mapping[str, Mapping[str, Difference]]
    resamples: int
    seed: int

    def tables(self) -> tuple[FigureTable, ...]:
        """The figures of each model, and the differences to the first."""
        reports = self._reports()
        tables: tuple[FigureTable, ...] = (figures_table(reports),)
        if len(reports) > 1:
            tables += (differences_table(reports, resamples=self.resamples, seed=self.seed),)
        return tables

    def to_dict(self) -> dict[str, Any]:
        """What ``mammoscope compare --json`` prints."""
        reports = self._reports()
        return comparison_json(reports, reports, resamples=self.resamples, seed=self.seed)

    def _reports(self) -> list[Report]:
        return [evaluation._as_report() for evaluation in self.evaluations]

    def __repr__(self) -> str:
        return "\n".join(table.written(TableFormat.TEXT) for table in self.tables())

    def _repr_html_(self) -> str:
        return "\n".join(table.written(TableFormat.HTML) for table in self.tables())


def compare(
    models: Sequence[Any] | Mapping[str, Any],
    data: AnnotatedDataset | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare models with the first of them, patients drawn alike for all.

    Parameters
    ----------
    models
        `Evaluation` objects of one data set, or what `evaluate` takes as predictions; a mapping gives them names.
    data
        The data set to evaluate on what is not evaluated yet.

    Raises
    ------
    EvaluationError
        If there is no model, predictions come without data, or two were evaluated on other images or another truth.

    Examples
    --------
    >>> import numpy as np
    >>> all_found = {image.id: np.array([[*box.as_tuple(), 0.9] for box in image.boxes]) for image in data}
    >>> nothing = {image.id: np.array([[0.0, 0.0, 1.0, 1.0, 0.1]]) for image in data}
    >>> compared = compare({"all": all_found, "nothing": nothing}, data, resamples=100)
    >>> compared.differences["nothing"]["ap50"].value
    -1.0
    """
    numbered = models if isinstance(models, Mapping) else {f"model {n}": model for n, model in enumerate(models, 1)}
    named = list(numbered.items())
    if not named:
        raise EvaluationError("there is no model to compare.")
    evaluations = []
    for name, model in named:
        if isinstance(model, Evaluation):
            evaluations.append(model)
        elif data is None:
            raise EvaluationError("to compare predictions, give the data set that they are on.")
        else:
            evaluations.append(evaluate(model, data, name=name, resamples=resamples, seed=seed))
    first = evaluations[0]
    names = [name for name, _ in named]
    differences = {
        name: paired_differences(
            (first.results, first.threshold), (other.results, other.threshold), resamples=resamples, seed=seed
        )
        for name, other in zip(names[1:], evaluations[1:], strict=True)
    }
    return Comparison(tuple(evaluations), differences, resamples, seed)
