"""Charts as files for a paper: SVG and PDF drawings, and the numbers of their curves as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope.evaluation.matching import EvaluationError
from mammoscope.evaluation.reports.charts import SIDE, Chart

COLOURS = ("#1b6ca8", "#c2541b", "#2a8a57", "#7a4b9d")
"""Of the first line of a chart and of those after it."""
_LEFT, _BOTTOM, _TOP, _LINE = 60.0, 60.0, 34.0, 18.0
_FONT, _FONT_SIZE = "Helvetica", 11


@dataclass(frozen=True)
class Drawing:
    """A chart that a notebook shows and `save` writes."""

    chart: Chart

    def save(self, file: str | Path) -> Path:
        """Write it as ``.svg``, ``.pdf`` or ``.csv`` (the numbers of its curves).

        Raises
        ------
        EvaluationError
            If the name ends otherwise, or the file cannot be written.
        """
        path = Path(file)
        made = {
            ".svg": lambda: chart_svg(self.chart).encode(),
            ".pdf": lambda: chart_pdf(self.chart),
            ".csv": lambda: curves_csv([self.chart]).encode(),
        }.get(path.suffix.lower())
        if made is None:
            raise EvaluationError(f"{path} ends in neither .svg, .pdf nor .csv, in which a chart can be written.")
        try:
            path.write_bytes(made())
        except OSError as error:
            raise EvaluationError(f"{path} cannot be written: {error.strerror}.") from None
        return path

    def __repr__(self) -> str:
        return f"<Drawing of {self.chart.title}: {', '.join(line.name for line in self.chart.lines)}>"

    def _repr_svg_(self) -> str:
        return chart_svg(self.chart)


def chart_svg(chart: Chart) -> str:
    """The chart as an SVG document with its title and key."""
    environment = Environment(
        loader=PackageLoader("mammoscope.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rows = len(chart.lines) if len(chart.lines) > 1 else 0
    template = environment.get_template("chart.svg")
    return template.render(chart=chart, side=SIDE, colours=COLOURS, rows=rows).strip() + "\n"


def chart_pdf(chart: Chart) -> bytes:
    """The chart as a PDF of one page as large as the drawing; text stays text, and lines stay lines."""
    from reportlab.pdfgen.canvas import Canvas

    rows = len(chart.lines) if len(chart.lines) > 1 else 0
    below = _BOTTOM + _LINE * rows
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(SIDE + _LEFT + 24, SIDE + below + _TOP), invariant=True)
    canvas.setTitle(f"{chart.title}: {chart.y_name} over {chart.x_name}")
    canvas.setFont(_FONT + "-Bold", 13)
    canvas.drawString(_LEFT, SIDE + below + 14, chart.title)
    canvas.translate(_LEFT, below)
    _draw_axes(canvas, chart)
    for x, y, width, height in chart.columns:
        canvas.setFillColor(COLOURS[0])
        canvas.rect(x, SIDE - y - height, width, height, stroke=0, fill=1)
    for number, points in filter(lambda band: band[1], chart.bands):
        canvas.setFillColor(_colour(number), alpha=0.16)
        canvas.drawPath(_path(canvas, points, closed=True), stroke=0, fill=1)
    canvas.setLineWidth(1.8)
    for number, line in enumerate(chart.lines, start=1):
        canvas.setStrokeColor(_colour(number))
        if line.points:
            canvas.drawPath(_path(canvas, line.points), stroke=1, fill=0)
        if rows:
            y = -_BOTTOM - _LINE * number + 18
            canvas.line(0, y + 4, 22, y + 4)
            canvas.setFillColor("#1c2530", alpha=1)
            canvas.drawString(30, y, line.name)
    for number, x, low, high in chart.spans:
        canvas.setStrokeColor(_colour(number))
        canvas.line(x, SIDE - low, x, SIDE - high)
    for number, x, y, radius in chart.dots:
        canvas.setFillColor(_colour(number), alpha=1)
        canvas.circle(x, SIDE - y, radius, stroke=0, fill=1)
    canvas.save()
    return buffer.getvalue()


def _draw_axes(canvas: Any, chart: Chart) -> None:
    canvas.setFont(_FONT, _FONT_SIZE)
    canvas.setLineWidth(0.6)
    canvas.setStrokeColor("#e0e5ea")
    canvas.setFillColor("#1c2530")
    for share, label in chart.x_ticks:
        canvas.line(SIDE * share, 0, SIDE * share, SIDE)
        canvas.drawCentredString(SIDE * share, -16, label)
    for share, label in chart.y_ticks:
        canvas.line(0, SIDE * share, SIDE, SIDE * share)
        canvas.drawRightString(-8, SIDE * share - 4, label)
    canvas.setStrokeColor("#8b96a3")
    canvas.rect(0, 0, SIDE, SIDE, stroke=1, fill=0)
    if chart.diagonal:
        canvas.setDash(5, 4)
        canvas.line(0, 0, SIDE, SIDE)
        canvas.setDash()
    canvas.drawCentredString(SIDE / 2, -36, chart.x_name)
    canvas.saveState()
    canvas.rotate(90)
    canvas.drawCentredString(SIDE / 2, 40, chart.y_name)
    canvas.restoreState()


def _path(canvas: Any, points: str, *, closed: bool = False) -> Any:
    path = canvas.beginPath()
    for number, pair in enumerate(points.split()):
        x, y = (float(value) for value in pair.split(","))
        (path.lineTo if number else path.moveTo)(x, SIDE - y)
    if closed:
        path.close()
    return path


def _colour(number: int) -> str:
    return COLOURS[(number - 1) % len(COLOURS)]


def curves_csv(charts: Iterable[Chart]) -> str:
    """The numbers of the charts' curves: chart, line, x, y; and of their bands x, low, high."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("chart", "line", "x_name", "y_name", "x", "y", "low", "high"))
    writer.writerows(row for chart in charts for row in _rows(chart))
    return buffer.getvalue()


def _rows(chart: Chart) -> Iterator[tuple[object, ...]]:
    for curve in chart.curves:
        names = (chart.title, curve.name, chart.x_name, chart.y_name)
        for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True):
            yield (*names, x, y, "", "")
        for x, low, high in zip(curve.band_x.tolist(), curve.low.tolist(), curve.high.tolist(), strict=True):
            yield (*names, x, "", low, high)
