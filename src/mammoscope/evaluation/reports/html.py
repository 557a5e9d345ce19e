"""One page that a person opens in a browser, without a server and without anything beside it."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

from mammoscope import __version__
from mammoscope.evaluation.calibration import calibration_error, reliability
from mammoscope.evaluation.data_overlap import Overlap
from mammoscope.evaluation.data_summary import data_card
from mammoscope.evaluation.matching import Matches, match
from mammoscope.evaluation.metrics import interval_text
from mammoscope.evaluation.platt import uncalibrated
from mammoscope.evaluation.predictions import Case, Report
from mammoscope.evaluation.reports.charts import (
    SIDE,
    Chart,
    curve_charts,
    reliability_chart,
    roc_chart,
    size_chart,
    training_charts,
)
from mammoscope.evaluation.reports.claim import claim_checklist
from mammoscope.evaluation.reports.markdown import named_figures, subgroup_table, two_views_table
from mammoscope.evaluation.reports.run_record import RunRecord, recipe_lines
from mammoscope.evaluation.roc import Unit, rate
from mammoscope.evaluation.subgroups import Subgroup
from mammoscope.inference import Calibration


@dataclass(frozen=True, slots=True)
class Mistake:
    """A case with what is wrong on it, in words."""

    case: Case
    said: str


def worst_misses(cases: Sequence[Case], threshold: float, iou: float, most: int) -> list[Mistake]:
    """Cases with lesions that no finding at the operating point hits, one entry a case.

    First those whose lesion no candidate hits at any score, the largest lesion first; then by rising score of the
    candidate that hits it.
    """
    ordered, matches = _matched(cases, iou)
    best = np.full(len(matches.image_of_lesion), -1.0)
    best[matches.lesion[matches.hit]] = matches.score[matches.hit]
    boxes = [box for case in ordered for box in case.result.truth]
    missed = [int(lesion) for lesion in np.flatnonzero(best < threshold)]
    missed.sort(
        key=lambda lesion: (best[lesion], -_share(ordered[matches.image_of_lesion[lesion]], boxes[lesion].area))
    )
    found: dict[int, Mistake] = {}
    for lesion in missed:
        image = int(matches.image_of_lesion[lesion])
        said = (
            "no candidate hits it"
            if best[lesion] < 0
            else f"the candidate on it has a score of {best[lesion]:.3f} only"
        )
        side = 100 * np.sqrt(_share(ordered[image], boxes[lesion].area))
        found.setdefault(image, Mistake(ordered[image], f"Missed lesion ({side:.1f} % of the image's side): {said}."))
    return list(found.values())[:most]


def worst_false_alarms(cases: Sequence[Case], threshold: float, iou: float, most: int) -> list[Mistake]:
    """Cases with a finding at the operating point that hits nothing, by falling score, one entry a case."""
    ordered, matches = _matched(cases, iou)
    found: dict[int, Mistake] = {}
    for candidate in np.flatnonzero(~matches.hit & (matches.score >= threshold)):
        image, near = int(matches.image[candidate]), matches.nearest_iou[candidate]
        where = f"its highest IoU with a lesion is {near:.2f}" if near > 0 else "it touches no lesion"
        said = f"False alarm with a score of {matches.score[candidate]:.3f}: {where}."
        found.setdefault(image, Mistake(ordered[image], said))
    return list(found.values())[:most]


def _matched(cases: Sequence[Case], iou: float) -> tuple[list[Case], Matches]:
    ordered = sorted(cases, key=lambda case: case.result.image_id)
    return ordered, match([case.result for case in ordered], iou)


def _share(case: Case, area: float) -> float:
    return area / (case.rows * case.columns)


_PICTURE_SIDE = 640
_KINDS = {
    "missed": "a lesion that nothing points at",
    "localisation": "near a lesion, but not on it (IoU 0.1 to 0.5)",
    "duplicate": "a second finding on one lesion",
    "background": "nowhere near a lesion (IoU below 0.1)",
}


def report_html(report: Report, gallery: int = 12, run: RunRecord | None = None) -> str:
    """The report as one HTML document with everything in it.

    Parameters
    ----------
    gallery
        How many cases with misses, and with false alarms, are shown at most; 0 for a page without any image.
    run
        The run that the model comes from, for its curves and recipe.
    """
    metrics = report.metrics
    bundle = metrics.get("bundle") or {}
    recipe = run.recipe if run else bundle.get("recipe") or {}
    subgroups = [Subgroup.from_json(group) for group in metrics.get("subgroups", ())]
    card = data_card(report)
    calibration = _calibration(metrics)
    raw_bins, raw_error = _as_the_network_scores(report, calibration)
    known = [Overlap.from_json(one).sentence() for one in metrics.get("overlaps") or ()]
    environment = Environment(
        loader=PackageLoader("mammoscope.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        m=metrics,
        interval=lambda pair: interval_text(pair, metrics["resamples"]),
        overlaps=known,
        note=_without(metrics["note"], known),
        banded=bool(metrics["resamples"]),
        figures=[(name, value, metrics["intervals"].get(key)) for name, value, key in named_figures(metrics)],
        charts=_charts(report, raw_bins),
        training=training_charts(run) if run else [],
        side=SIDE,
        calibration=calibration,
        raw_error=raw_error,
        kinds=[
            (kind, _KINDS.get(kind, ""), error, *map(metrics["intervals"].get, (f"errors_{kind}", f"dap50_{kind}")))
            for kind, error in metrics["errors"].items()
        ],
        subgroups=subgroup_table(subgroups) if subgroups else None,
        two_views=two_views_table(stored, metrics["resamples"]) if (stored := metrics.get("two_views")) else None,
        galleries=_galleries(report, gallery) if gallery else None,
        card=card.facts,
        sizes=size_chart(card.size_edges, card.size_counts) if card.size_counts.any() else None,
        facts=_model_facts(bundle),
        recipe=recipe_lines(recipe),
        made_with=run.made_with if run else {},
        checklist=[
            (section, list(items))
            for section, items in groupby(claim_checklist(metrics, recipe, card.facts), lambda item: item.section)
        ],
        unreadable=[case.result.unreadable for case in report.cases if case.result.unreadable is not None],
        version=__version__,
    )


def _without(note: str, sentences: Sequence[str]) -> str:
    """The note without what the page says above it."""
    for sentence in sentences:
        note = note.replace(sentence, "")
    return " ".join(note.split())


def _charts(report: Report, raw_bins: Sequence[Mapping[str, Any]]) -> list[Chart]:
    froc, precision_recall = curve_charts(
        report.results, float(report.metrics["iou"]), int(report.metrics["resamples"]), int(report.metrics["seed"])
    )
    bins = {"as reported": report.metrics["reliability"]}
    if raw_bins:
        bins["before calibration"] = raw_bins
    found = [
        froc,
        precision_recall,
        reliability_chart(bins, report.metrics["intervals"]),
        roc_chart({unit: rate(report.results, unit) for unit in Unit}),
    ]
    return [chart for chart in found if chart]


def _calibration(metrics: Mapping[str, Any]) -> Calibration | None:
    stored = (metrics.get("bundle") or metrics).get("calibration")
    return Calibration.model_validate(stored) if stored else None


def _as_the_network_scores(
    report: Report, calibration: Calibration | None
) -> tuple[list[Mapping[str, Any]], float | None]:
    """The reliability bins and the calibration error before calibration; nothing where there was none."""
    if calibration is None:
        return [], None
    matches = match(uncalibrated(report.results_alone, calibration), float(report.metrics["iou"]))
    return [asdict(b) for b in reliability(matches)], float(calibration_error(matches)[0])


def _galleries(report: Report, most: int) -> list[tuple[str, list[tuple[str, str, str | None]]]]:
    threshold, iou = float(report.metrics["threshold"]), float(report.metrics["iou"])
    return [
        (title, _shown(worst(report.cases, threshold, iou, most), report.folder))
        for title, worst in (("Worst misses", worst_misses), ("Worst false alarms", worst_false_alarms))
    ]


def _shown(mistakes: Sequence[Mistake], folder: Path) -> list[tuple[str, str, str | None]]:
    """(file name, what is wrong, picture as a data URL or ``None``)."""
    return [(mistake.case.file_name, mistake.said, _picture(folder, mistake.case.picture)) for mistake in mistakes]


def _picture(folder: Path, name: str | None) -> str | None:
    path = folder / name if name else None
    if path is None or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _model_facts(bundle: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the bundle says of itself; empty where the report does not hold it."""
    if not bundle:
        return []
    size = bundle["input"]
    return [
        ("name and version", f"{bundle['name']} {bundle['version']}"),
        ("made with", bundle["made_with"]),
        ("input", f"{size['rows']} rows, {size['columns']} columns, crop {size['crop']}"),
        ("classes", ", ".join(bundle["classes"])),
        *(
            (
                f"operating point {point['name']}",
                f"{point['threshold']:.4g}: {point['rule']}, chosen on {point['chosen_on']}",
            )
            for point in bundle["operating_points"]
        ),
        *(
            (
                "trained on",
                f"{data['name']}: {data['images']} images of {data['patients']} patients, licence {data['licence']}, "
                f"fingerprint {data['fingerprint'][:12]}",
            )
            for data in bundle["training_data"]
        ),
        *(
            (
                f"its figures on {figures['dataset']}{', ' + figures['split'] if figures['split'] else ''}",
                ", ".join(f"{name} {value:.3f}" for name, value in figures["values"].items()),
            )
            for figures in bundle["figures"]
        ),
        ("notice", bundle["notice"]),
    ]
