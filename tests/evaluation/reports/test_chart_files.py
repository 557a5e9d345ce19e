import csv
import io
import re
from xml.etree import ElementTree

import pytest

from mammoscope.evaluation import ImageResult
from mammoscope.evaluation.reports.chart_files import chart_pdf, chart_svg, curves_csv
from mammoscope.evaluation.reports.charts import Chart, curve_charts
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def charts():
    results = [
        ImageResult(number, f"p{number}", (A,), (Finding(A if number % 2 else NOWHERE, 0.9 - number / 100),))
        for number in range(8)
    ]
    return curve_charts(results, 0.5, resamples=50, seed=0)


def test_svg_is_a_drawing_with_every_line_and_the_band(charts):
    froc = ElementTree.fromstring(chart_svg(charts[0]))
    assert froc.tag == f"{SVG}svg"
    assert len(froc.findall(f".//{SVG}polyline")) == 4
    assert len(froc.findall(f".//{SVG}polygon")) == 1
    texts = {"".join(text.itertext()) for text in froc.iter(f"{SVG}text")}
    assert {"FROC", "false positives per image", "sensitivity", "1/8", "8", "centre in the box"} <= texts


def test_pdf_holds_vectors_and_text_and_is_the_same_each_time(charts):
    pdf = chart_pdf(charts[1])
    assert pdf.startswith(b"%PDF-")
    assert b"/Subtype /Image" not in pdf
    assert b"/BaseFont /Helvetica" in pdf
    assert pdf == chart_pdf(charts[1])
    assert re.search(rb"/MediaBox \[ 0 0 444 508 \]", pdf)  # three lines in its key
    nothing_found = curve_charts([ImageResult(1, "p", (A,), ())], 0.5, resamples=5, seed=0)
    assert all(chart_pdf(chart) for chart in nothing_found)
    assert chart_pdf(Chart("Empty", "x", "y", 1.0, (), columns=((0, 180, 20, 180),), dots=((1, 5, 5, 2),)))


def test_csv_holds_what_was_measured(charts):
    rows = list(csv.DictReader(io.StringIO(curves_csv(charts))))
    froc = [row for row in rows if (row["chart"], row["line"]) == ("FROC", "IoU 0.5")]
    points = [(float(row["x"]), float(row["y"])) for row in froc if row["y"]]
    assert points[:3] == [(0, 0), (0.125, 0), (0.125, 0.125)]  # a false alarm, then one of eight lesions
    band = [(float(row["x"]), float(row["low"]), float(row["high"])) for row in froc if row["low"]]
    assert len(band) == 97
    assert all(0 <= low <= high <= 1 for _, low, high in band)
