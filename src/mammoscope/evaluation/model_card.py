"""The model card of a bundle, written from its own words and the figures of an evaluation.

Mitchell et al.: Model Cards for Model Reporting, FAT* 2019, whose nine sections it has.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope.evaluation.cases import METRICS
from mammoscope.evaluation.errors import EvaluationError
from mammoscope.evaluation.report import named_figures, subgroup_table
from mammoscope.evaluation.run_record import recipe_lines
from mammoscope.evaluation.subgroups import Subgroup
from mammoscope.evaluation.tables import TableFormat
from mammoscope.inference import BundleMetadata

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
        (name, _told(value, metrics["intervals"].get(key)), _told(own.get(key), own_intervals.get(key)))
        for name, value, key in named_figures(metrics)
        if not key.startswith(_LEFT_TO_THE_REPORT)
    ]


def _told(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
