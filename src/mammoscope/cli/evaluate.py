"""`mammoscope evaluate`, `compare`, `report`, `model-card`, `calibrate`: how good a model is, and what says so."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mammoscope.cli.outputs import new_file, new_folder
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.datasets import AnnotatedDataset, AnnotatedImage
    from mammoscope.evaluation import Metrics, Report
    from mammoscope.evaluation.prediction_files import Predictions
    from mammoscope.evaluation.run import CandidateSource
    from mammoscope.inference import KnownData


_TRAINING = "All splits were evaluated together, images for training among them."
_COUNT_UNANNOTATED = "Count images that nobody annotated as images without a lesion, instead of setting them aside."
_NO_PATIENTS = "No patient is known: each image is taken for another patient, so the intervals are over images."


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder for figures, predictions, cases, report, curves and pictures.")],
    bundle: Annotated[Path | None, typer.Option(help="The model; the shipped one by default.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="A data set's folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Only that split of the data set.")] = None,
    coco: Annotated[Path | None, typer.Option(help="A COCO file as it stands, instead of --dataset.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of its images.")] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="With --coco: regular expression on file names with the group 'patient'.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Another program's predictions instead of a bundle: COCO results, Ultralytics, CSV, Parquet."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --predictions: what reports call the model.")] = None,
    pixels: Annotated[
        str, typer.Option(help="With --predictions: the boxes' pixels: original, relative (0 to 1) or ROWSxCOLUMNS.")
    ] = "original",
    letterbox: Annotated[
        bool, typer.Option("--letterbox", help="ROWSxCOLUMNS kept the image's aspect, between bars.")
    ] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="With --predictions: NAME=LABEL of the data set (may be repeated); NAME=- leaves it out."
        ),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(help="With --predictions: DATASET or DATASET:SPLIT that its model learnt from (may be repeated)."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Only boxes of that label count as truth (may be repeated); of a model with several classes, only its "
            "candidates that say so, too."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Figures by that attribute of images or boxes (may be repeated); by default size, view, laterality."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Operating point, instead of the bundle's own.")
    ] = None,
    threshold_from: Annotated[
        Path | None,
        typer.Option(
            help="Choose it (highest F1) on validation: a report's folder, or with --predictions a file of predictions "
            "on --threshold-split."
        ),
    ] = None,
    threshold_split: Annotated[str, typer.Option(help="The data set's split that such a file is on.")] = "val",
    pictures: Annotated[
        str,
        typer.Option(help="How many cases to draw beside the worst: a number, 'all' or 'none'."),
    ] = "all",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples.")] = 0,
    two_views: Annotated[
        bool,
        typer.Option(
            "--two-views/--single-views", help="Read the CC and the MLO view of a breast together, or each by itself."
        ),
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model.")] = None,
    source: Annotated[str | None, typer.Option(help="What the data are and how to cite them, for the report.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which licence they may be used, for the report.")] = None,
    count_unannotated: Annotated[bool, typer.Option("--count-unannotated", help=_COUNT_UNANNOTATED)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON instead of the table.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an evaluation that is there.")] = False,
) -> None:
    """Evaluate a model or a file of predictions: AP, precision, recall, F1, FROC, with 95 % intervals.

    Exit code 1 says that some images could not be read: they count as images without findings.
    """
    from mammoscope.evaluation.run import DEFAULT_GROUPS, EvaluationOptions, evaluate_into

    most_pictures = _number_of_pictures(pictures)
    new_folder(out, force=force)
    data, notes = annotated_data(dataset, split, coco, images, patient_pattern)
    foreign = _Foreign(predictions, model, pixels, letterbox, classes or [], trained_on or [])
    subject = foreign.source(data, bundle) if predictions else _of_a_bundle(bundle, threads, foreign)
    chosen: tuple[float | None, str] = (threshold, "given with --threshold")
    chosen_on: tuple[KnownData, ...] = ()
    if threshold_from is not None:
        if threshold is not None:
            raise MammoscopeError("give either --threshold or --threshold-from.")
        chosen, chosen_on = _chosen_threshold(
            threshold_from, threshold_split, dataset, foreign, count_unannotated=count_unannotated
        )
    if label:
        data = _with_labels(data, label)
    options = EvaluationOptions(
        threshold=chosen[0],
        threshold_rule=chosen[1],
        groups=by or DEFAULT_GROUPS,
        labels=label or (),
        most_pictures=most_pictures,
        resamples=resamples,
        seed=seed,
        notes=notes,
        about={"source": source, "licence": licence},
        known=chosen_on,
        count_unannotated=count_unannotated,
        two_views=two_views,
    )
    evaluated = evaluate_into(out, subject, data, options)
    if as_json:
        typer.echo(json.dumps(evaluated.to_json(), indent=1))
    else:
        _tell(evaluated.metrics, out, evaluated.facts["two_views"])
    for overlap in evaluated.overlaps:
        typer.echo(f"warning: {overlap.sentence()}", err=True)
    unreadable = [case for case in evaluated.cases if case.result.unreadable is not None]
    for case in unreadable:
        typer.echo(f"unreadable: {case.result.unreadable}", err=True)
    if unreadable:
        typer.echo(
            f"{len(unreadable)} of {len(evaluated.cases)} images were not read; they count as images without findings.",
            err=True,
        )
        raise typer.Exit(1)


def _of_a_bundle(bundle: Path | None, threads: int | None, foreign: "_Foreign") -> "CandidateSource":
    from mammoscope.evaluation.run import DetectorSource
    from mammoscope.inference import Detector

    if foreign.is_described:
        raise MammoscopeError(
            "--model, --pixels, --letterbox, --class and --trained-on describe a file of predictions: give it with "
            "--predictions."
        )
    return DetectorSource(Detector(bundle, threads=threads))


@dataclass(frozen=True)
class _Foreign:
    """What the command line says of a file of predictions."""

    file: Path | None
    model: str | None
    pixels: str
    letterbox: bool
    classes: list[str]
    trained_on: list[str]

    @property
    def is_described(self) -> bool:
        return bool(self.model or self.pixels != "original" or self.letterbox or self.classes or self.trained_on)

    def source(self, data: "AnnotatedDataset", bundle: Path | None) -> "CandidateSource":
        from mammoscope.evaluation.run import PredictionSource

        if self.file is None or bundle is not None:
            raise MammoscopeError("give either --bundle or --predictions: one model is evaluated at a time.")
        read = self.read(self.file, data)
        return PredictionSource(read, self.model or self.file.stem, known=[self._known(one) for one in self.trained_on])

    def read(self, file: Path, data: "AnnotatedDataset") -> "Predictions":
        from mammoscope.evaluation.prediction_files import PixelSpace, read_predictions

        space = PixelSpace.parse(self.pixels, letterbox=self.letterbox)
        return read_predictions(file, data, pixels=space, classes=dict(map(_named_class, self.classes)))

    @staticmethod
    def _known(text: str) -> "KnownData":
        from mammoscope.datasets import load_dataset
        from mammoscope.evaluation.data_overlap import known_data
        from mammoscope.inference import DataRole

        folder, colon, split = text.rpartition(":")
        whole = not colon or Path(text).is_dir()
        return known_data(DataRole.TRAINED, load_dataset(Path(text if whole else folder), None if whole else split))


def _named_class(text: str) -> tuple[str, str]:
    name, equals, label = text.rpartition("=")
    if not equals or not name.strip() or not label.strip():
        raise MammoscopeError(f"--class is NAME=LABEL, for example 0=Mass, or NAME=- to leave it out, not {text!r}.")
    return name.strip(), label.strip()


def _chosen_threshold(
    file: Path, split: str, dataset: Path | None, foreign: _Foreign, *, count_unannotated: bool
) -> "tuple[tuple[float, str], tuple[KnownData, ...]]":
    """(threshold, how it came about), chosen on a report of validation or on predictions there; and on whom."""
    from mammoscope.datasets import load_dataset
    from mammoscope.evaluation import case_of, choose_threshold, read_report, report_folder
    from mammoscope.evaluation.data_overlap import known_data
    from mammoscope.inference import DataRole, KnownData

    if file.is_dir():
        report = read_report(report_folder(file))
        named = f"{report.metrics['dataset']}{f', split {of}' if (of := report.metrics['split']) else ''}"
        evaluated = [KnownData.model_validate(one) for one in report.metrics.get("known_data") or ()]
        known = tuple(one.model_copy(update={"role": DataRole.CHOSEN}) for one in evaluated)
        return (choose_threshold(report.results), f"highest F1 on {named}, IoU 0.5"), known
    if dataset is None or foreign.file is None:
        raise MammoscopeError(
            "--threshold-from takes a report's folder, or with --predictions and --dataset a file of predictions on "
            "the data set's validation split."
        )
    validation = load_dataset(dataset, split)
    validation = validation if count_unannotated else validation.annotated()
    read = foreign.read(file, validation)
    results = [case_of(image, read.candidates(image)).result for image in validation]
    rule = f"highest F1 on {validation.name}, split {split}, IoU 0.5"
    return (choose_threshold(results), rule), (known_data(DataRole.CHOSEN, validation),)


def _number_of_pictures(text: str) -> int | None:
    if text == "all":
        return None
    if text == "none":
        return 0
    if not text.isdecimal():
        raise MammoscopeError(f"--pictures is a number, 'all' or 'none', not {text!r}.")
    return int(text)


def annotated_data(
    folder: Path | None, split: str | None, coco: Path | None, images: Path | None, patient_pattern: str | None
) -> "tuple[AnnotatedDataset, list[str]]":
    """The images to evaluate, and what a reader of the figures has to know about them."""
    from mammoscope.datasets import AnnotatedDataset, PatientUnknownError, load_dataset

    if (folder is None) == (coco is None):
        raise MammoscopeError("give the images either with --dataset or with --coco and --images.")
    if folder is not None:
        if images is not None or patient_pattern is not None:
            raise MammoscopeError("--images and --patient-pattern belong to --coco; a data set's folder knows both.")
        data = load_dataset(folder, split)
        mixed = split is None and any(image.split == "train" for image in data)
        return data, [_TRAINING] if mixed else []
    if coco is None or images is None:
        raise MammoscopeError("--coco needs --images, the folder of its images.")
    try:
        data, notes = AnnotatedDataset.from_coco(coco, images, patient_pattern=patient_pattern), []
    except PatientUnknownError:
        if patient_pattern is not None:
            raise
        typer.echo(f"{_NO_PATIENTS} Say with --patient-pattern how file names hold the patient.", err=True)
        data = AnnotatedDataset.from_coco(coco, images, each_image_a_patient=True)
        notes = [_NO_PATIENTS]
    if data.clipped:
        typer.echo(f"{data.clipped} boxes reached over the image's edge and were cut there.", err=True)
    return data if split is None else data.narrowed(split), notes


def _with_labels(data: "AnnotatedDataset", labels: Sequence[str]) -> "AnnotatedDataset":
    for label in labels:
        if label not in data.labels:
            raise MammoscopeError(f"{data.name} has no label {label!r}; it has {', '.join(data.labels)}.")

    def only(image: "AnnotatedImage") -> "AnnotatedImage":
        kept = [place for place, name in enumerate(image.labels) if name in labels]
        return replace(
            image,
            boxes=tuple(image.boxes[place] for place in kept),
            labels=tuple(image.labels[place] for place in kept),
            box_facts=tuple(image.box_facts[place] for place in kept),
        )

    return replace(data, images=tuple(only(image) for image in data))


def _tell(metrics: "Metrics", out: Path, two_views: "Mapping[str, Any] | None") -> None:
    """The ten figures that decide, what the other view changed, and where all of them are."""
    from mammoscope.evaluation import TableFormat, decisive_figures
    from mammoscope.evaluation.metrics import interval_text
    from mammoscope.evaluation.reports.markdown import two_views_table
    from mammoscope.evaluation.run import REPORT

    table = Table("figure", "value", "95 % interval")
    for name, value, key in decisive_figures(metrics.to_json()):
        shown = interval_text(metrics.intervals.get(key), metrics.resamples)
        table.add_row(name, "undefined" if value is None else f"{value:.3f}", shown)
    Console().print(table)
    if two_views:
        typer.echo(two_views_table(two_views, metrics.resamples).written(TableFormat.TEXT))
    typer.echo(
        f"{metrics.n_images} images, {metrics.n_boxes} boxes, {metrics.n_patients} patients; "
        f"threshold {metrics.threshold:.4g} ({metrics.threshold_rule})."
    )
    if metrics.note:
        typer.echo(metrics.note)
    typer.echo(f"Report: {out / REPORT}; as one page: mammoscope report {out}")


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(help="Folders of 'mammoscope evaluate' or runs, or bundles; the first is compared with."),
    ],
    dataset: Annotated[Path | None, typer.Option(help="The data set to evaluate bundles on.")] = None,
    split: Annotated[str | None, typer.Option(help="Only that split of it.")] = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or html.")] = "text",
    paper: Annotated[bool, typer.Option(help="With the paper's own figures, of other data, for scale.")] = True,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples for the differences.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the resamples.")] = 0,
    count_unannotated: Annotated[bool, typer.Option("--count-unannotated", help=_COUNT_UNANNOTATED)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures and differences as JSON.")] = False,
) -> None:
    """Compare models: precision, recall, F1, AP50 with intervals, and paired differences to the first.

    A run stands with its figures on validation. A bundle is evaluated first, which takes a while.
    Exit code 1 says that some were evaluated on other images or another truth than the first: those have no difference.
    """
    from mammoscope.evaluation import TableFormat, comparison_json, differences_table, figures_table, same_truth

    if form not in list(TableFormat):
        raise MammoscopeError(f"--format is text, markdown, latex or html, not {form!r}.")
    with TemporaryDirectory() as scratch:
        read = [
            _report(model, dataset, split, Path(scratch) / str(number), count_unannotated=count_unannotated)
            for number, model in enumerate(models)
        ]
    first = read[0]
    others = []
    for report in read[1:]:
        if report.metrics["dataset_fingerprint"] != first.metrics["dataset_fingerprint"]:
            typer.echo(f"{report.folder} was evaluated on another data set or split than {first.folder}.", err=True)
        elif not same_truth(first.results, report.results):
            typer.echo(f"{report.folder} counts other boxes as truth than {first.folder}.", err=True)
        else:
            others.append(report)
    if as_json:
        typer.echo(json.dumps(comparison_json(read, [first, *others], resamples=resamples, seed=seed), indent=1))
    else:
        tables = [figures_table(read, paper=paper)]
        if others:
            tables.append(differences_table([first, *others], resamples=resamples, seed=seed))
        typer.echo("\n".join(table.written(TableFormat(form)) for table in tables), nl=False)
    if len(others) + 1 < len(read):
        typer.echo(
            "Figures on different images do not say which model is better; no difference is given there.", err=True
        )
        raise typer.Exit(1)


def _report(
    model: Path, dataset: Path | None, split: str | None, scratch: Path, *, count_unannotated: bool
) -> "Report":
    """A report, that of a run on validation, or that of a bundle, made now."""
    from dataclasses import replace

    from mammoscope.evaluation import read_report, report_folder

    if not model.is_file():
        return read_report(report_folder(model))
    if dataset is None:
        raise MammoscopeError(f"to compare the bundle {model}, give --dataset, the data set to evaluate it on.")
    from mammoscope.datasets import load_dataset
    from mammoscope.evaluation.run import DetectorSource, EvaluationOptions, evaluate_into
    from mammoscope.inference import Detector

    options = EvaluationOptions(groups=(), worst=0, count_unannotated=count_unannotated)
    evaluate_into(scratch, DetectorSource(Detector(model)), load_dataset(dataset, split), options)
    return replace(read_report(scratch), folder=model)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made, or that of a run.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    run: Annotated[Path | None, typer.Option(help="The run that the model comes from, for its curves.")] = None,
    gallery: Annotated[
        int,
        typer.Option(min=0, help="How many misses, and false alarms, to show at most; 0: no images at all."),
    ] = 12,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write an evaluation as one HTML page with everything in it: figures, curves, errors, the worst cases, the data.

    Of a run's folder this is its evaluation on validation.
    """
    from mammoscope.evaluation import read_report, read_run, report_folder, report_html

    new_file(out, force=force)
    evaluated = read_report(report_folder(folder))
    if run is None and evaluated.folder != folder:
        run = folder
    page = report_html(evaluated, gallery, None if run is None else read_run(run))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Report: {out} ({out.stat().st_size / 1e6:.1f} MB)")


_OF_THE_SPEED = {"model", "version", "threads", "repeats", "peer", "rows"}


def model_card(
    results: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made, or its metrics.json.")],
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")] = Path("model.md"),
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
    run: Annotated[Path | None, typer.Option(help="Its run, for a bundle that does not hold its recipe.")] = None,
    speed: Annotated[Path | None, typer.Option(help="What 'benchmarks/latency.py --out' wrote.")] = None,
    caveats: Annotated[Path | None, typer.Option(help="Markdown list of what else a user has to know.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a bundle's model card (Mitchell et al. 2019) from its figures; no number in it is typed by hand."""
    from mammoscope.evaluation import model_card_markdown, read_metrics, read_run
    from mammoscope.inference import Bundle

    new_file(out, force=force)
    opened = Bundle.open(bundle)
    text = model_card_markdown(
        opened.metadata,
        read_metrics(results),
        megabytes=opened.path.stat().st_size / 1e6,
        recipe=None if run is None else read_run(run).recipe,
        speed=None if speed is None else _speed(speed),
        caveats="" if caveats is None else _text(caveats),
    )
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Model card: {out}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise MammoscopeError(f"{file} cannot be read as text: give a Markdown file.") from None


def _speed(file: Path) -> dict[str, Any]:
    try:
        measured: dict[str, Any] = json.loads(_text(file))
    except ValueError:
        raise MammoscopeError(f"{file} does not hold times: make it with 'benchmarks/latency.py --out'.") from None
    if not isinstance(measured, dict) or not measured.keys() >= _OF_THE_SPEED:
        raise MammoscopeError(f"{file} does not hold times: make it with 'benchmarks/latency.py --out'.")
    return measured


def fit_views(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made with this bundle.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples for the differences.")] = 2000,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Fit how a bundle reads the CC and the MLO view of a breast together: three weights, from an evaluation of it.

    Take validation images. The figures printed are of a cross-validation: each patient is scored by weights
    that were fitted without them. Nothing is written where the other view does not lower the log-loss there.
    """
    _needs_onnx("fit-views")
    from mammoscope.evaluation import TableFormat, read_report
    from mammoscope.evaluation.data_overlap import data_known_to
    from mammoscope.evaluation.reports.markdown import two_views_table
    from mammoscope.evaluation.two_views import cross_validated, gains, metadata_with_two_views, pairs_of_cases
    from mammoscope.inference import Bundle, rewrite_metadata

    new_file(out, force=force)
    opened, report = Bundle.open(bundle), read_report(folder)
    metadata = metadata_with_two_views(report, opened.metadata, data_known_to(opened))
    alone = [case.alone for case in report.cases]
    honest = cross_validated(alone)
    if honest is None:
        raise MammoscopeError(
            f"the report in {folder} teaches nothing about two views: scored by weights that were fitted on others, "
            "its patients' candidates are no better told apart; read each view by itself."
        )
    found = gains(honest, float(report.metrics["threshold"]), resamples=resamples)
    rewrite_metadata(opened.path, metadata, out)
    stored = {
        "breasts": len(pairs_of_cases(report.cases)),
        "figures": {name: gain.to_json() for name, gain in found.items()},
    }
    typer.echo(two_views_table(stored, resamples).written(TableFormat.TEXT))
    typer.echo(f"{out}: {metadata.name} {metadata.version}")


def _needs_onnx(command: str) -> None:
    if importlib.util.find_spec("onnx") is None:
        raise MammoscopeError(
            f"'mammoscope {command}' needs onnx, which the core does not install: run pip install '.[train]' in "
            "Mammoscope's source folder"
        )


def calibrate(
    folder: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made with this bundle.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Fit a bundle's scores to an evaluation of it, so that a score is the probability that a mark hits a lesion.

    Take validation images, or your own: not those that the network learned from, nor those
    whose figures you publish.
    Nothing that is found changes, only its score; every threshold moves with the scores. 'mammoscope export' does this
    by itself.
    """
    _needs_onnx("calibrate")
    from mammoscope.evaluation import calibrated, calibration_error, match, read_report, recalibrated_metadata
    from mammoscope.evaluation import uncalibrated as with_raw_scores
    from mammoscope.evaluation.data_overlap import Overlap, data_known_to
    from mammoscope.inference import Bundle, rewrite_metadata

    new_file(out, force=force)
    opened, report = Bundle.open(bundle), read_report(folder)
    for one in report.metrics.get("overlaps") or ():
        typer.echo(f"warning: {Overlap.from_json(one).sentence()}", err=True)
    metadata = recalibrated_metadata(report, opened.metadata, data_known_to(opened))
    rewrite_metadata(opened.path, metadata, out)
    raw = with_raw_scores(report.results_alone, opened.metadata.calibration)
    errors = [
        calibration_error(match(results, float(report.metrics["iou"])))[0]
        for results in (report.results_alone, calibrated(raw, metadata.calibration))
    ]
    moved = ", ".join(
        f"{before.name} {before.threshold:.3f} -> {after.threshold:.3f}"
        for before, after in zip(opened.metadata.operating_points, metadata.operating_points, strict=True)
    )
    if opened.metadata.two_views is not None and metadata.two_views is None:
        typer.echo(
            "These images do not teach how two views of a breast are read together: the new bundle reads each alone."
        )
    typer.echo(
        f"{out}: {metadata.name} {metadata.version}; expected calibration error on these images {errors[0]:.3f} -> "
        f"{errors[1]:.3f}; thresholds: {moved}"
    )
