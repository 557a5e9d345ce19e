"""Evaluating a bundle, or another program's predictions, on a data set: figures, and the report's folder."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, write_json
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation.data_overlap import (
    Overlap,
    data_known_to,
    known_data,
    overlap_notes,
    overlaps,
)
from mammoscope.evaluation.evaluator import RESAMPLES, Metrics, evaluate
from mammoscope.evaluation.prediction_files import Predictions
from mammoscope.evaluation.predictions import (
    CASES,
    METRICS,
    PREDICTIONS,
    Case,
    attributes_of,
    case_of,
    cases_to_coco,
    predictions_to_coco,
)
from mammoscope.evaluation.reports.chart_files import chart_pdf, chart_svg, curves_csv
from mammoscope.evaluation.reports.charts import curve_charts
from mammoscope.evaluation.reports.html import worst_false_alarms, worst_misses
from mammoscope.evaluation.reports.markdown import report_markdown, two_views_section
from mammoscope.evaluation.subgroups import Subgroup, check_attributes, figures_by
from mammoscope.evaluation.two_views import gains, pairs_of_cases, read_together
from mammoscope.findings import Finding, Reading, ReadingStatus
from mammoscope.imaging import BreastExtent, Mammogram, MammogramReader, breast_extent, find_breast_region
from mammoscope.inference import DataRole, Detector, KnownData, TwoViews, is_whole_view
from mammoscope.results import draw_reading

REPORT, _PICTURES = "report.md", "pictures"
_CURVES = {"FROC": "froc", "Precision and recall": "precision_recall"}
DEFAULT_GROUPS = ("size", "view", "laterality")
"""The attributes that figures are split by where none is asked for."""
WORST = 12
"""Of how many misses, and of how many false alarms, a picture is drawn in any case: as many as the page shows."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate.

    Parameters
    ----------
    threshold
        Operating point; ``None`` for the model's own.
    threshold_rule
        How the given threshold came about.
    groups
        Attributes to split figures by.
    labels
        Of a model with several classes only the candidates that say one of these count; all for none.
    most_pictures
        How many cases to draw in the data set's order; ``None`` for all.
    worst
        How many of the worst misses, and of the worst false alarms, to draw beside those.
    notes
        What a reader of the figures has to know.
    about
        ``source`` and ``licence`` of the data, as far as they are known.
    known
        The data that a model knows which does not say it itself.
    count_unannotated
        Whether images that nobody annotated count, as images without a lesion; else they are set aside.
    two_views
        Whether the two views of a breast are read together, where the model knows how.
    """

    threshold: float | None = None
    threshold_rule: str = "given with --threshold"
    groups: Sequence[str] = DEFAULT_GROUPS
    labels: Sequence[str] = ()
    most_pictures: int | None = 0
    worst: int = WORST
    resamples: int = RESAMPLES
    seed: int = 0
    notes: Sequence[str] = ()
    about: Mapping[str, str | None] | None = None
    known: Sequence[KnownData] = ()
    count_unannotated: bool = False
    two_views: bool = True


class CandidateSource(Protocol):
    """What is evaluated: a bundle, or predictions that another program made."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """Its version; empty where that is not known."""

    @property
    def threshold(self) -> float:
        """Its operating point."""

    @property
    def threshold_rule(self) -> str:
        """How that came about."""

    @property
    def several_classes(self) -> bool:
        """Whether its candidates say more than one class."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself, for ``metrics.json``."""

    @property
    def known(self) -> Sequence[KnownData]:
        """The data that it knows; empty where it does not say."""

    @property
    def two_views(self) -> TwoViews | None:
        """How it reads the two views of a breast together; ``None`` where it does not."""

    @property
    def needs_pixels(self) -> bool:
        """Whether it has to be shown the mammogram."""

    def candidates(self, image: AnnotatedImage, mammogram: Mammogram | None) -> tuple[Finding, ...]:
        """The candidates on one image; the mammogram is there where ``needs_pixels`` says so."""

    def notes(self, data: AnnotatedDataset) -> list[str]:
        """What a reader of the figures has to know."""


class DetectorSource:
    """A bundle that reads every image."""

    needs_pixels = True

    def __init__(self, detector: Detector) -> None:
        metadata = detector.bundle.metadata
        self._detector = detector
        self.name, self.version = detector.algorithm.name, detector.algorithm.version
        self.threshold, self.threshold_rule = float(detector.threshold), detector.threshold_rule
        self.several_classes = len(metadata.classes) > 1
        self.facts = {"bundle": metadata.model_dump(mode="json", exclude={"known_data"})}
        self.known = data_known_to(detector.bundle)
        self.two_views = metadata.two_views

    def candidates(self, image: AnnotatedImage, mammogram: Mammogram | None) -> tuple[Finding, ...]:  # noqa: ARG002
        """What the network proposes."""
        if mammogram is None:
            raise ValueError("a detector needs the mammogram")
        return self._detector.candidates(mammogram)

    def notes(self, data: AnnotatedDataset) -> list[str]:  # noqa: ARG002
        """Nothing."""
        return []


@dataclass
class PredictionSource:
    """Predictions of any program; images are read for pictures only.

    Parameters
    ----------
    threshold
        An operating point that the options can replace.
    """

    predictions: Predictions
    name: str
    version: str = ""
    threshold: float = 0.5
    threshold_rule: str = "none was given, so 0.5 was taken"
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: Sequence[KnownData] = ()
    needs_pixels = False
    two_views = None

    @property
    def several_classes(self) -> bool:
        """Whether the predictions say more than one class."""
        return len({finding.label for found in self.predictions.by_image.values() for finding in found}) > 1

    def candidates(self, image: AnnotatedImage, mammogram: Mammogram | None) -> tuple[Finding, ...]:  # noqa: ARG002
        """What the file says."""
        return self.predictions.candidates(image)

    def notes(self, data: AnnotatedDataset) -> list[str]:
        """Images without predictions, and what was left out."""
        return self.predictions.notes(data)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that an evaluation found: figures, what they are made of, and on which known data."""

    metrics: Metrics
    cases: tuple[Case, ...]
    subgroups: tuple[Subgroup, ...]
    overlaps: tuple[Overlap, ...]
    data: AnnotatedDataset
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        own = known_data(DataRole.EVALUATED, self.data, salt=self.metrics.dataset_fingerprint)
        return {
            **self.metrics.to_json(),
            "subgroups": [group.to_json() for group in self.subgroups],
            **self.facts,
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
            "known_data": [own.model_dump(mode="json")],
        }


def evaluate_into(out: Path, source: CandidateSource, data: AnnotatedDataset, options: EvaluationOptions) -> Evaluated:
    """Evaluate, and leave figures, predictions, cases, report, curves and pictures in a folder.

    Raises
    ------
    MammoscopeError
        If an attribute is not there, or the folder cannot be written.
    """
    data = data if options.count_unannotated else data.annotated()
    check_attributes(options.groups, map(attributes_of, data), data.name)
    _prepare(out)
    pictures = _Pictures(out / _PICTURES, _point(source, options))
    evaluated = evaluate_source(source, data, options, pictures)
    _write(out, evaluated)
    return evaluated


def write_evaluated(out: Path, evaluated: Evaluated) -> None:
    """Leave what `evaluate_into` leaves, of an evaluation that was made without a folder: no pictures.

    Raises
    ------
    MammoscopeError
        If the folder cannot be written.
    """
    _prepare(out)
    _write(out, evaluated)


def evaluate_source(
    source: CandidateSource, data: AnnotatedDataset, options: EvaluationOptions, pictures: "_Pictures | None" = None
) -> Evaluated:
    """The figures of a bundle or of predictions, without a folder.

    Raises
    ------
    EvaluationError
        If an attribute is not there.
    """
    data = data if options.count_unannotated else data.annotated()
    check_attributes(options.groups, map(attributes_of, data), data.name)
    known = [*source.known, *options.known]
    found = overlaps(known, data)
    two_views = source.two_views if options.two_views else None
    # What two views show together is known only when both are read: then their pictures are drawn after that.
    cases = _read_all(data, source, options, None if two_views else pictures)
    together = two_views is not None and bool(pairs_of_cases(cases))
    if two_views is not None:
        cases = read_together(cases, two_views)
    if options.labels and source.several_classes:
        cases = [_saying(case, options.labels) for case in cases]
    point = _point(source, options)
    metrics = evaluate(
        [case.result for case in cases],
        point,
        source.threshold_rule if options.threshold is None else options.threshold_rule,
        resamples=options.resamples,
        seed=options.seed,
        dataset=data.name,
        split=data.split_name,
        dataset_fingerprint=data.fingerprint(),
        model=source.name,
        model_version=source.version,
        note=" ".join(
            (
                *overlap_notes(found, known=bool(source.known) or any(one.role is DataRole.TRAINED for one in known)),
                *source.notes(data),
                *filter(None, [data.set_aside_told(), _of_two_views(cases) if together else None]),
                *options.notes,
            )
        ),
    )
    if pictures is not None and two_views is not None:
        cases = _drawn(cases[: options.most_pictures], data, pictures) + cases[len(cases[: options.most_pictures]) :]
    if pictures is not None:
        cases = _with_worst(cases, data, pictures, options.worst, metrics)
    groups = figures_by(cases, options.groups, point, resamples=options.resamples, seed=options.seed)
    facts = {
        **source.facts,
        "data": dict(options.about or {}),
        "unannotated_set_aside": data.set_aside,
        "two_views": _told_gains(cases, point, options) if together else None,
    }
    return Evaluated(metrics, tuple(cases), groups, found, data, facts)


def _of_two_views(cases: Sequence[Case]) -> str:
    """How many images were read together, and what such images cannot show."""
    pairs = pairs_of_cases(cases)
    seen = [cases[place].result for pair in pairs for place in pair]
    told = f"{len(seen)} of {len(cases)} images were scored together with the other view of their breast"
    if all(result.truth for result in seen):
        return f"{told}; each of these breasts holds a marked lesion, so what this does to normal breasts is not shown."
    return f"{told}."


def _told_gains(cases: Sequence[Case], threshold: float, options: EvaluationOptions) -> dict[str, Any]:
    found = gains(cases, threshold, resamples=options.resamples, seed=options.seed)
    return {"breasts": len(pairs_of_cases(cases)), "figures": {name: gain.to_json() for name, gain in found.items()}}


def _point(source: CandidateSource, options: EvaluationOptions) -> float:
    return float(source.threshold if options.threshold is None else options.threshold)


def _prepare(out: Path) -> None:
    """Make the folder; pictures of an earlier evaluation go, so that none stands beside another's figures."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / METRICS).is_file():
            shutil.rmtree(out / _PICTURES, ignore_errors=True)
            (out / METRICS).unlink()
        (out / _PICTURES).mkdir(exist_ok=True)
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None


def _read_all(
    data: AnnotatedDataset, source: CandidateSource, options: EvaluationOptions, pictures: "_Pictures | None"
) -> list[Case]:
    most = (len(data) if options.most_pictures is None else options.most_pictures) if pictures else 0
    cases: list[Case] = []
    with MammogramReader() as reader, _progress("reading") as progress:
        for image in progress.track(data.images):
            candidates: tuple[Finding, ...] = ()
            unreadable = picture = mammogram = extent = None
            drawn = len(cases) < most
            try:
                if source.needs_pixels or drawn:
                    mammogram = _read(image, reader)
                candidates = source.candidates(image, mammogram)
                extent = _extent(image, mammogram) if source.needs_pixels and mammogram else None
            except MammoscopeError as error:
                if source.needs_pixels:
                    unreadable = str(error)
                else:  # predictions stand without the picture
                    candidates = source.candidates(image, None)
            if pictures and drawn and mammogram is not None:
                picture = pictures.draw(mammogram, image, candidates)
            cases.append(case_of(image, candidates, unreadable=unreadable, picture=picture, extent=extent))
    return cases


def _extent(image: AnnotatedImage, mammogram: Mammogram) -> BreastExtent | None:
    """Where the breast lies on a view that can be read together with another."""
    if not is_whole_view(image.view, image.laterality, mammogram.view_modifiers):
        return None
    return breast_extent(find_breast_region(mammogram.pixels).mask, mammogram.columns)


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _saying(case: Case, labels: Sequence[str]) -> Case:
    """Only the candidates of those classes: another class's is no false alarm of theirs."""
    saying = [place for place, finding in enumerate(case.result.candidates) if finding.label in labels]
    candidates = tuple(case.result.candidates[place] for place in saying)
    alone = tuple(case.scores_alone[place] for place in saying) if case.scores_alone else ()
    return replace(case, result=replace(case.result, candidates=candidates), scores_alone=alone)


def _with_worst(
    cases: Sequence[Case], data: AnnotatedDataset, pictures: "_Pictures", most: int, metrics: Metrics
) -> list[Case]:
    """The cases, those with the worst misses and false alarms drawn where they are not yet."""
    mistakes = (
        mistake.case.result.image_id
        for worst in (worst_misses, worst_false_alarms)
        for mistake in worst(cases, metrics.threshold, metrics.iou, most)
    )
    chosen = set(mistakes)
    drawn = iter(_drawn([case for case in cases if case.result.image_id in chosen], data, pictures))
    return [next(drawn) if case.result.image_id in chosen else case for case in cases]


def _drawn(cases: Sequence[Case], data: AnnotatedDataset, pictures: "_Pictures") -> list[Case]:
    """The cases with a picture each, those that have none yet drawn now; one that cannot be read stays without."""
    images = {image.id: image for image in data}
    drawn = []
    with MammogramReader() as reader:
        for case in cases:
            picture, image = case.picture, images[case.result.image_id]
            if not picture and not case.result.unreadable:
                with suppress(MammoscopeError):
                    picture = pictures.draw(_read(image, reader), image, case.result.candidates)
            drawn.append(replace(case, picture=picture))
    return drawn


def _read(image: AnnotatedImage, reader: MammogramReader) -> Mammogram:
    mammogram = reader.read(image.path)
    if (mammogram.rows, mammogram.columns) != (image.rows, image.columns):
        raise MammoscopeError(
            f"{image.name} has {mammogram.rows} rows and {mammogram.columns} columns, but its annotations are for "
            f"{image.rows} and {image.columns}."
        )
    return mammogram


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Draws cases into a folder, findings at a threshold beside the truth."""

    folder: Path
    threshold: float

    def draw(self, mammogram: Mammogram, image: AnnotatedImage, candidates: Sequence[Finding]) -> str:
        """Draw a case; its picture's path relative to the report's folder."""
        found = tuple(finding for finding in candidates if finding.score >= self.threshold)
        reading = Reading(
            mammogram.name,
            ReadingStatus.FOUND if found else ReadingStatus.NOTHING_FOUND,
            found,
            rows=mammogram.rows,
            columns=mammogram.columns,
            threshold=self.threshold,
        )
        name = self.folder / f"{image.path.stem}.jpg"
        if name.exists():  # two images of one name in different folders
            name = self.folder / f"{image.path.stem}_{image.id}.jpg"
        picture = Image.fromarray(draw_reading(mammogram, reading, image.boxes))
        try:
            picture.save(name, quality=90, subsampling=0)  # thin coloured lines fade when colour is stored at half size
        except OSError as error:
            raise MammoscopeError(f"{name} cannot be written: {error.strerror}.") from None
        return f"{self.folder.name}/{name.name}"


def _write(out: Path, evaluated: Evaluated) -> None:
    metrics, cases = evaluated.metrics, evaluated.cases
    results = [case.result for case in cases]
    charts = curve_charts(results, metrics.iou, metrics.resamples, metrics.seed)
    category_ids = evaluated.data.category_ids
    try:
        for chart in charts:
            (out / f"{_CURVES[chart.title]}.svg").write_text(chart_svg(chart), encoding="utf-8")
            (out / f"{_CURVES[chart.title]}.pdf").write_bytes(chart_pdf(chart))
        (out / "curves.csv").write_text(curves_csv(charts), encoding="utf-8")
        shown = "".join(f"\n![{chart.title}]({_CURVES[chart.title]}.svg)" for chart in charts) + "\n"
        together = two_views_section(evaluated.facts["two_views"], metrics.resamples)
        (out / REPORT).write_text(
            report_markdown(metrics, results, evaluated.subgroups) + together + shown, encoding="utf-8"
        )
        write_json(out / PREDICTIONS, predictions_to_coco(cases, category_ids))
        write_json(out / CASES, cases_to_coco(cases, category_ids))
        write_json(out / METRICS, evaluated.to_json())
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
