"""One page that a person opens in a browser, without a server and without anything beside it."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

from mammoscope import __version__
from mammoscope.evaluation.cases import Report
from mammoscope.evaluation.charts import SIDE, froc_chart, precision_recall_chart, reliability_chart
from mammoscope.evaluation.gallery import Mistake, worst_false_alarms, worst_misses
from mammoscope.evaluation.matching import CENTRE, match_by
from mammoscope.evaluation.report import named_figures, subgroup_table
from mammoscope.evaluation.subgroups import Subgroup

_PICTURE_SIDE = 640
_KINDS = {
    "missed": "a lesion that nothing points at",
    "localisation": "near a lesion, but not on it (IoU 0.1 to 0.5)",
    "duplicate": "a second finding on one lesion",
    "background": "nowhere near a lesion (IoU below 0.1)",
}


def report_html(report: Report, gallery: int = 12) -> str:
    """The report as one HTML document with everything in it.

    Parameters
    ----------
    gallery
        How many cases with misses, and with false alarms, are shown at most.
    """
    metrics = report.metrics
    threshold, iou = float(metrics["threshold"]), float(metrics["iou"])
    at_iou, at_20, by_centre = match_by(report.results, (iou, 0.2, CENTRE))
    subgroups = [Subgroup.from_json(group) for group in metrics.get("subgroups", ())]
    environment = Environment(
        loader=PackageLoader("mammoscope.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        m=metrics,
        figures=[(name, value, metrics["intervals"].get(key)) for name, value, key in named_figures(metrics)],
        charts=[
            precision_recall_chart((at_iou, at_20)),
            froc_chart((at_iou, at_20, by_centre)),
            reliability_chart(metrics["reliability"]),
        ],
        side=SIDE,
        kinds=[
            (kind, _KINDS.get(kind, ""), error, metrics["intervals"].get(f"dap50_{kind}"))
            for kind, error in metrics["errors"].items()
        ],
        subgroups=subgroup_table(subgroups) if subgroups else None,
        galleries=[
            ("Worst misses", _shown(worst_misses(report.cases, threshold, iou, gallery), report.folder)),
            ("Worst false alarms", _shown(worst_false_alarms(report.cases, threshold, iou, gallery), report.folder)),
        ],
        facts=_model_facts(metrics.get("bundle")),
        unreadable=[case.result.unreadable for case in report.cases if case.result.unreadable is not None],
        version=__version__,
    )


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
