"""`report.md`, and the model card of a bundle, from its own words and the figures of an evaluation.

The card has the nine sections of Mitchell et al.: Model Cards for Model Reporting, FAT* 2019.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope.evaluation.comparison import FigureTable, TableFormat
from mammoscope.evaluation.evaluator import RESAMPLES, Metrics
from mammoscope.evaluation.matching import EvaluationError, ImageResult
from mammoscope.evaluation.metrics import interval_text
from mammoscope.evaluation.predictions import METRICS
from mammoscope.evaluation.reports.run_record import recipe_lines
from mammoscope.evaluation.subgroups import Subgroup
from mammoscope.evaluation.two_views import GAINS
from mammoscope.inference import BundleMetadata

_RULES = {"froc": "", "froc_iou20": ", IoU 0.2", "froc_iou10": ", IoU 0.1", "froc_centre": ", centre in the box"}
_MEANS = {
    "mean": "Mean of these sensitivities",
    "cpm": "Mean sensitivity at 1/8 to 8 FPPI (CPM)",
    "camelyon16": "Mean sensitivity at 1/4 to 8 FPPI (CAMELYON16)",
    "dbtex": "Mean sensitivity at 1 to 4 FPPI (DBTex)",
}


def report_markdown(metrics: Metrics, results: Sequence[ImageResult] = (), subgroups: Sequence[Subgroup] = ()) -> str:
    """The report in Markdown.

    Parameters
    ----------
    results
        For the list of unreadable images.
    subgroups
        For the tables by attribute.
    """
    m = metrics
    figures = named_figures(m.to_json())
    of_split = f", split {m.split}" if m.split else ""
    lines = [
        f"# Evaluation of {m.model or 'a model'} {m.model_version}".rstrip(),
        "",
        "Research use only; not a medical device.",
        "",
        f"Data: {m.dataset or 'unnamed'}{of_split}: {m.n_images} images of {m.n_patients} patients with "
        f"{m.n_boxes} boxes; {m.n_images_without_boxes} images have no box.",
        "",
        f"Operating point: score {m.threshold:.4g} or more ({m.threshold_rule}). Hits at IoU {m.iou:g} or more.",
        "",
        "| figure | value | 95 % interval |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {_value(value)} | {_interval(metrics, key)} |" for name, value, key in figures),
        "",
        f"At the operating point {m.true_positives} boxes were found and {m.false_negatives} missed, with "
        f"{m.false_positives} false positives ({m.fppi:.2f} per image).",
        "",
        "| kind of error | at the operating point | AP50 gained by correcting | 95 % interval |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {kind} | {error.count} | {_value(error.dap50)} | {_interval(metrics, f'dap50_{kind}')} |"
            for kind, error in m.errors.items()
        ),
        "",
        f"Expected calibration error of the scores: {_value(m.calibration_error)}"
        f"{f' ({spread})' if (spread := _interval(metrics, 'calibration_error')) else ''}.",
        "",
        f"Intervals: {m.resamples} bootstrap resamples over patients, seed {m.seed}.",
    ]
    if subgroups:
        table = subgroup_table(subgroups)
        lines += ["", "## By subgroup", "", table.written(TableFormat.MARKDOWN).rstrip()]
    if m.note:
        lines += ["", f"Note: {m.note}"]
    unreadable = [result for result in results if result.unreadable is not None]
    if unreadable:
        lines += ["", f"## {len(unreadable)} unreadable images, counted as images without findings", ""]
        lines += [f"- image {result.image_id}: {result.unreadable}" for result in unreadable]
    return "\n".join(lines) + "\n"


def two_views_table(stored: Mapping[str, Any], resamples: int) -> FigureTable:
    """Figures of each view alone and of both views of a breast read together.

    Parameters
    ----------
    stored
        ``two_views`` of metrics.json.
    """
    names = [(GAINS[key], gain) for key, gain in stored["figures"].items() if key in GAINS]
    return FigureTable(
        f"{stored['breasts']} breasts were seen on a CC and an MLO view and read together; the figures are of all "
        "images. Difference: 95 % interval by the paired bootstrap over patients.",
        ("figure", "each view alone", "both views together", "difference"),
        tuple(
            (name, _value(gain["alone"]), _value(gain["together"]), _difference(gain, resamples))
            for name, gain in names
        ),
    )


def two_views_section(stored: Mapping[str, Any] | None, resamples: int = RESAMPLES) -> str:
    """The report's section on the two views of a breast; empty where none were read together."""
    if not stored:
        return ""
    return f"\n## With and without the other view\n\n{two_views_table(stored, resamples).written(TableFormat.MARKDOWN)}"


def _difference(gain: Mapping[str, Any], resamples: int) -> str:
    value, spread = gain["difference"], interval_text(gain["interval"], resamples)
    if value is None:
        return "undefined"
    return f"{value:+.3f}" + (f" ({spread})" if spread else "")


def subgroup_table(subgroups: Sequence[Subgroup]) -> FigureTable:
    """The subgroups' numbers and figures with intervals."""

    def cell(group: Subgroup, name: str) -> str:
        interval = group.intervals.get(name)
        spread = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
        return _value(group.figures[name]) + spread

    columns = {
        "AP50": "ap50",
        "Precision": "precision",
        "Recall": "recall",
        "F1": "f1",
        "Sensitivity at 1 FPPI": "froc_1",
    }
    return FigureTable(
        "95 % intervals in brackets. A row of lesions counts the images with such a lesion and sets the others aside.",
        ("group", "images", "boxes", "patients", *columns),
        tuple(
            (
                f"{group.attribute}: {group.value}{' (lesions)' if group.of_boxes else ''}",
                *(str(n) for n in (group.n_images, group.n_boxes, group.n_patients)),
                *(cell(group, name) for name in columns.values()),
            )
            for group in subgroups
        ),
    )


DECISIVE = ("ap50", "ap20", "f1", "precision", "recall", "fppi", "froc_1", "froc_iou20_1", "froc_cpm", "auc_image")
"""The figures that a terminal shows, by the key of their interval; the report has them all."""


def decisive_figures(figures: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    """The ten of `named_figures` that decide; the ROC AUC gives way to the calibration error where it is undefined."""
    by_key = {key: (name, value, key) for name, value, key in named_figures(figures)}
    by_key["calibration_error"] = ("Calibration error", figures["calibration_error"], "calibration_error")
    return [by_key.get(key, by_key["calibration_error"]) for key in DECISIVE]


def named_figures(figures: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    """(name for a person, value, key of its interval) of each figure, in the order of reports.

    Parameters
    ----------
    figures
        As `Metrics.to_json` gives them.
    """
    names = {
        "ap50": "AP at IoU 0.5 (AP50)",
        "ap50_area": "AP50 by the paper's equation 4",
        "ap20": "AP at IoU 0.2",
        "ap10": "AP at IoU 0.1",
        "ap50_95": "AP at IoU 0.5 to 0.95 (COCO's AP)",
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1",
    }
    rows = [(name, figures[key], key) for key, name in names.items()]
    for key, rule in _RULES.items():
        rows += [(f"Sensitivity at {x} FPPI{rule}", value, f"{key}_{x}") for x, value in figures[key].items()]
        rows += [(f"{name}{rule}", figures["froc_means"][key][mean], f"{key}_{mean}") for mean, name in _MEANS.items()]
    rows.append(("False positives per image", figures["fppi"], "fppi"))
    if figures["n_images_without_boxes"]:
        rows.append(("The same on images without a lesion", figures["fppi_without_boxes"], "fppi_without_boxes"))
    for unit, (n_with, n_without) in figures["auc_units"].items():
        if n_with and n_without:
            name = f"ROC AUC by {unit} ({n_with} with a lesion, {n_without} without)"
            rows.append((name, figures[f"auc_{unit}"], f"auc_{unit}"))
    return rows


def _value(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(metrics: Metrics, key: str) -> str:
    return interval_text(metrics.intervals.get(key), metrics.resamples)


_RESAMPLES_OF_BUNDLES = 1000  # at least: a bundle does not say how many its own intervals are made of
_LEFT_TO_THE_REPORT = ("froc_iou10", "froc_centre")
"""Figures by other rules of what a hit is: the card has those at IoU 0.5 and 0.2."""


def model_card_markdown(
    metadata: BundleMetadata,
    metrics: Mapping[str, Any],
    *,
    megabytes: float,
    recipe: Mapping[str, Any] | None = None,
    speed: Mapping[str, Any] | None = None,
    caveats: str = "",
) -> str:
    """The card in Markdown.

    Parameters
    ----------
    metadata
        Of the bundle.
    metrics
        The content of metrics.json of an evaluation of this very bundle.
    megabytes
        Size of the bundle's file.
    recipe
        How it was trained, by section; ``None`` for what the bundle says.
    speed
        What ``benchmarks/latency.py --out`` wrote, if it was measured.
    caveats
        Markdown of what else a user has to know of this model.

    Raises
    ------
    EvaluationError
        If the figures are of another model or version.
    """
    of = (metrics["model"], metrics["model_version"])
    if of != (metadata.name, metadata.version):
        raise EvaluationError(
            f"the figures are of {' '.join(of)}, not of {metadata.name} {metadata.version}: evaluate this bundle first."
        )
    if speed is not None and (speed["model"], speed["version"]) != of:
        raise EvaluationError(f"the times are not of {' '.join(of)}: measure this bundle first.")
    subgroups = [Subgroup.from_json(group) for group in metrics.get("subgroups", ())]
    environment = Environment(
        loader=PackageLoader("mammoscope.evaluation"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template("model_card.md").render(
        model=metadata,
        m=metrics,
        about=metrics.get("data") or {},
        megabytes=megabytes,
        recipe=recipe_lines(metadata.recipe if recipe is None else recipe),
        figures=_beside(metrics, metadata),
        subgroups=subgroup_table(subgroups).written(TableFormat.MARKDOWN) if subgroups else "",
        factors=list(dict.fromkeys(group.attribute for group in subgroups)),
        speed=speed,
        caveats=caveats.strip(),
    )


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a metrics.json, from the file or its folder.

    Raises
    ------
    EvaluationError
        If it is not what an evaluation of this version writes.
    """
    file = path / METRICS if path.is_dir() else path
    try:
        metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        dict(metrics["intervals"])
        dict(metrics["froc_means"])
        str(metrics["model_version"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{file} does not hold the figures of an evaluation by this version: make it with 'mammoscope evaluate'."
        ) from None
    return metrics


def _beside(metrics: Mapping[str, Any], metadata: BundleMetadata) -> list[tuple[str, str, str]]:
    """(name, on these images, on the bundle's own validation) of each figure, with intervals."""
    own = {name: value for figures in metadata.figures for name, value in figures.values.items()}
    own_intervals = {name: pair for figures in metadata.figures for name, pair in figures.intervals.items()}
    return [
        (
            name,
            _told(value, metrics["intervals"].get(key), metrics["resamples"]),
            _told(own.get(key), own_intervals.get(key), _RESAMPLES_OF_BUNDLES),
        )
        for name, value, key in named_figures(metrics)
        if not key.startswith(_LEFT_TO_THE_REPORT)
    ]


def _told(value: float | None, interval: Sequence[float] | None, resamples: int) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval_text(interval, resamples)})" if interval else "")
