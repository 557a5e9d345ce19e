"""Models side by side: the paper's Table 2, and what the bootstrap says about their differences."""

import html
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from mammoscope.evaluation.matching import EvaluationError, ImageResult, match
from mammoscope.evaluation.metrics import (
    Floats,
    average_precision,
    bootstrap_weights,
    count_at,
    interval_digits,
    interval_of,
    interval_text,
)
from mammoscope.evaluation.predictions import Report

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}
_MINUS = re.compile(r"(?<!\w)-(?=\d)")  # before a number, LaTeX would set a hyphen
_CAPTION_WIDTH = 120


class TableFormat(StrEnum):
    """How a table is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A caption, a header and rows of as many cells; the first column names, the others hold figures."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def written(self, form: TableFormat) -> str:
        """The table in that format, ending with a line break."""
        writer = {
            TableFormat.TEXT: self._text,
            TableFormat.MARKDOWN: self._markdown,
            TableFormat.LATEX: self._latex,
            TableFormat.HTML: self._html,
        }[form]
        return "\n".join(writer()) + "\n"

    def _text(self) -> list[str]:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

        def line(cells: tuple[str, ...]) -> str:
            first, *others = (
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            return "  ".join([first, *others]).rstrip()

        return [
            *textwrap.wrap(self.caption, _CAPTION_WIDTH),
            "",
            line(self.header),
            line(tuple("-" * width for width in widths)),
            *map(line, self.rows),
        ]

    def _markdown(self) -> list[str]:
        def line(cells: tuple[str, ...]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        return [self.caption, "", line(self.header), line(("---", *["---:"] * (len(self.header) - 1))),
                *map(line, self.rows)]  # fmt: skip

    def _latex(self) -> list[str]:
        def line(cells: tuple[str, ...]) -> str:
            return " & ".join(_MINUS.sub("$-$", _in_latex(cell)) for cell in cells) + r" \\"

        columns = "l" + "r" * (len(self.header) - 1)
        return [r"\begin{table}", rf"\caption{{{_in_latex(self.caption)}}}",
                rf"\begin{{tabular}}{{{columns}}}", r"\hline",
                line(self.header), r"\hline", *map(line, self.rows), r"\hline", r"\end{tabular}",
                r"\end{table}"]  # fmt: skip

    def _html(self) -> list[str]:
        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        head = line(self.header, "th")
        return ["<table>", f"<caption>{html.escape(self.caption)}</caption>", f"<thead>{head}</thead>",
                "<tbody>", *(line(row, "td") for row in self.rows), "</tbody>", "</table>"]  # fmt: skip


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


_COLUMNS = (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"), ("AP50", "ap50"))
_PAPER = (
    ("(other data) Demirel et al. 2023, RetinaNet R101", "0.735", "0.60", "0.66", "0.568"),
    ("(other data) Demirel et al. 2023, RetinaNet R50", "0.766", "0.442", "0.560", "0.502"),
    ("(other data) Demirel et al. 2023, Faster R-CNN R101", "0.613", "0.655", "0.635", "0.544"),
    ("(other data) Demirel et al. 2023, Faster R-CNN R50", "0.574", "0.660", "0.614", "0.523"),
)
"""Table 2 of Demirel et al. 2023 (doi 10.34110/forecasting.1326245)."""
_OF_THE_PAPER = (
    "The rows marked (other data) are the paper's models on its own, private images, as published without intervals: "
    "for scale, not for comparison."
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of a second model minus that of a first, on the same images.

    Parameters
    ----------
    value
        The difference; ``None`` where a figure is undefined.
    interval
        95 % interval over resamples of patients, drawn alike for both models.
    p
        Two-sided: twice the smaller share of resamples on either side of no difference, the set itself counted
        with them (so never below 2 / (resamples + 1)), at most 1.
    """

    value: float | None
    interval: tuple[float, float] | None
    p: float | None


def paired_differences(
    first: tuple[Sequence[ImageResult], float],
    second: tuple[Sequence[ImageResult], float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Difference]:
    """AP50 and F1 of a second model minus those of a first, by the paired bootstrap over patients.

    Parameters
    ----------
    first, second
        A model's results and its operating point. Both on the same images with the same truth.

    Raises
    ------
    EvaluationError
        If the images, their patients or their truth are not the same.
    """
    if not same_truth(first[0], second[0]):
        raise EvaluationError("the two models were not evaluated on the same images with the same truth.")
    matches = [(match(results, 0.5), threshold) for results, threshold in (first, second)]
    n_patients = matches[0][0].n_patients
    drawn = bootstrap_weights(n_patients, resamples, seed)

    def difference(weights: Floats) -> dict[str, Floats]:
        one, other = (
            {"ap50": average_precision(m, weights), "f1": count_at(m, threshold, weights).f1}
            for m, threshold in matches
        )
        return {name: other[name] - one[name] for name in one}

    whole, spread = difference(np.ones((1, n_patients))), difference(drawn)
    return {name: _difference(float(whole[name][0]), spread[name]) for name in whole}


def same_truth(first: Sequence[ImageResult], second: Sequence[ImageResult]) -> bool:
    """Whether two evaluations have the same images of the same patients with the same lesions and crowd regions."""
    one, other = ({r.image_id: (r.patient, r.truth, r.crowds) for r in results} for results in (first, second))
    return one == other


def figures_table(reports: Sequence[Report], *, paper: bool = False) -> FigureTable:
    """Table 2 of Demirel et al. 2023: model, precision, recall, F1, AP50; here with 95 % intervals.

    Parameters
    ----------
    paper
        Whether the paper's own figures stand below, marked as of other data.
    """
    first = reports[0].metrics
    of_split = f", split {first['split']}" if first["split"] else ""
    points: dict[str, list[str]] = {}
    for name, report in zip(model_names(reports), reports, strict=True):
        points.setdefault(report.metrics["threshold_rule"], []).append(f"{name} {report.metrics['threshold']:.4g}")
    told = "; ".join(f"{', '.join(thresholds)}: {rule}" for rule, thresholds in points.items())
    caption = (
        f"{first['dataset']}{of_split}: {first['n_images']} images of {first['n_patients']} patients with "
        f"{first['n_boxes']} boxes. 95 % intervals by bootstrap over patients. Precision, recall and F1 at the "
        f"operating point. Thresholds: {told}. Research use only."
    )
    marks = _marks(reports)
    if any(marks):
        known = (
            f"{name} ({overlap['role']}: {overlap['patients']} of {overlap['of_patients']} patients)"
            for name, report in zip(model_names(reports), reports, strict=True)
            for overlap in report.metrics.get("overlaps") or ()
        )
        caption += f" {_KNOWN} {'; '.join(known)}."
    if paper:
        caption += f" {_OF_THE_PAPER}"
    rows = tuple(
        (name + mark, *(_figure(report, key) for _, key in _COLUMNS))
        for name, mark, report in zip(model_names(reports), marks, reports, strict=True)
    )
    return FigureTable(caption, ("Model", *(name for name, _ in _COLUMNS)), rows + (_PAPER if paper else ()))


_KNOWN = "Rows marked * were evaluated on patients that the model knows already:"


def _marks(reports: Sequence[Report]) -> list[str]:
    return [" *" if report.metrics.get("overlaps") else "" for report in reports]


def differences_table(reports: Sequence[Report], *, resamples: int = 2000, seed: int = 0) -> FigureTable:
    """Each report's AP50 and F1 minus the first's, with interval and p value.

    Raises
    ------
    EvaluationError
        If one of them is on other images or another truth than the first.
    """
    names = model_names(reports)
    rows = []
    for name, report in zip(names[1:], reports[1:], strict=True):
        differences = paired_differences(
            _at_its_point(reports[0]), _at_its_point(report), resamples=resamples, seed=seed
        )
        cells = [cell for key in ("ap50", "f1") for cell in _told(differences[key], resamples)]
        rows.append((name, *cells))
    caption = (
        f"Minus {names[0]}: paired bootstrap, {resamples} resamples over patients, seed {seed}; "
        "95 % interval, two-sided p."
    )
    return FigureTable(caption, ("Model", "AP50", "p", "F1", "p"), tuple(rows))


def comparison_json(
    reports: Sequence[Report], comparable: Sequence[Report], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Figures of each model, and differences to the first of those that can be compared, as plain JSON types.

    Parameters
    ----------
    comparable
        The first report and those on the same images with the same truth.
    """
    names = dict(zip(map(id, reports), model_names(reports), strict=True))
    first = comparable[0]
    differences = {
        names[id(report)]: paired_differences(
            _at_its_point(first), _at_its_point(report), resamples=resamples, seed=seed
        )
        for report in comparable[1:]
    }
    return {
        "models": [
            {
                "name": names[id(report)],
                "folder": str(report.folder),
                "threshold": report.metrics["threshold"],
                "overlaps": list(report.metrics.get("overlaps") or ()),
                **{key: report.metrics[key] for _, key in _COLUMNS},
                "intervals": {
                    key: report.metrics["intervals"][key] for _, key in _COLUMNS if key in report.metrics["intervals"]
                },
            }
            for report in reports
        ],
        "compared_with": names[id(first)],
        "differences": {
            name: {key: asdict(difference) for key, difference in found.items()} for name, found in differences.items()
        },
        "resamples": resamples,
        "seed": seed,
    }


def model_names(reports: Sequence[Report]) -> list[str]:
    """The reports' models; where two have one name, with the name of the report's folder."""
    names = [str(report.metrics["model"]) or report.folder.name for report in reports]
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} ({report.folder.resolve().name})"
        for name, report in zip(names, reports, strict=True)
    ]


def _at_its_point(report: Report) -> tuple[list[ImageResult], float]:
    return report.results, float(report.metrics["threshold"])


def _difference(value: float, resampled: Floats) -> Difference:
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(value):
        return Difference(None, None, None)
    side = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return Difference(value, interval_of(defined), min(1.0, 2 * (side + 1) / (len(defined) + 1)))


def _figure(report: Report, key: str) -> str:
    value, interval = report.metrics[key], report.metrics["intervals"].get(key)
    if value is None:
        return "undefined"
    return (
        f"{value:.3f}" if interval is None else f"{value:.3f} ({interval_text(interval, report.metrics['resamples'])})"
    )


def _told(difference: Difference, resamples: int) -> tuple[str, str]:
    if difference.value is None or difference.p is None:
        return "undefined", ""
    interval = difference.interval
    spread = ""
    if interval is not None:
        digits = interval_digits(interval, resamples)
        spread = f" ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})"
    return f"{difference.value:+.3f}{spread}", f"{difference.p:.3f}" if difference.p >= 0.001 else f"{difference.p:.1e}"
