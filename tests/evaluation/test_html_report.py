"""The page: whole in itself, with the figures, and showing names as they are."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mammoscope.evaluation import Case, ImageResult, Report, evaluate, figures_by, report_html
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Crop
from mammoscope.inference import BundleInput, BundleMetadata, OperatingPoint, TrainingData

A, NOWHERE = Box(0, 0, 10, 10), Box(80, 80, 90, 90)
BUNDLE = BundleMetadata(
    name="net",
    version="7",
    input=BundleInput(rows=320, columns=192, crop=Crop.BREAST),
    classes=("Mass",),
    operating_points=(OperatingPoint(name="default", threshold=0.5, rule="highest F1", chosen_on="a split"),),
    training_data=(TrainingData(name="films", licence="CC BY 3.0", images=9, patients=3, fingerprint="ab" * 32),),
    made_with="a pencil",
).model_dump(mode="json")


class Page(HTMLParser):
    """Texts, and the attributes of every element."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.elements = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture
def report(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.full((2000, 1000, 3), 90, np.uint8)).save(tmp_path / "pictures/one.jpg")
    marks = ({"label": "Mass"},)
    cases = (
        Case(ImageResult(1, "p", (A,), (Finding(A, 0.9),)), "zero.png", 100, 100, {"view": "CC"}, marks),
        Case(ImageResult(2, "q", (A,), (Finding(NOWHERE, 0.8),)), "<b>one</b>.png", 100, 100, {"view": "CC"}, marks,
             "pictures/one.jpg"),
        Case(ImageResult(3, "r", (A,), (), (), "three.png cannot be decoded."), "three.png", 100, 100, {}, marks),
    )  # fmt: skip
    metrics = evaluate(
        [case.result for case in cases], 0.5, "by hand", resamples=20, dataset="set <1>", split="val", model="net"
    ).to_json()
    groups = [group.to_json() for group in figures_by(cases, ["view"], 0.5, resamples=20)]
    return Report(tmp_path, metrics | {"subgroups": groups, "bundle": BUNDLE}, cases)


def test_figures_and_facts_are_on_it(report):
    texts = Page(report_html(report)).texts
    for text in (
        "Evaluation of net", "version unknown, on set <1>, split val", "Research use only; not a medical device.",
        "Worst misses", "Worst false alarms", "AP50 by the paper's equation 4", "view: CC", "view: unknown",
        "320 rows, 192 columns, crop breast", "0.5: highest F1, chosen on a split",
        "films: 9 images of 3 patients, licence CC BY 3.0, fingerprint abababababab", "three.png cannot be decoded.",
    ):  # fmt: skip
        assert text in texts, text
    assert texts[texts.index("Recall") + 1] == "0.333"
    assert texts[texts.index("background") + 2] == "1"


def test_nothing_is_fetched_from_elsewhere(report):
    text = report_html(report)
    elements = Page(text).elements
    assert {tag for tag, _ in elements}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert all(a["src"].startswith("data:image/jpeg;base64,") for tag, a in elements if tag == "img")
    assert not any("href" in attributes for _, attributes in elements)
    assert "url(" not in text
    assert "http" not in text


def test_names_cannot_become_markup(report):
    page = Page(report_html(report))
    assert "b" not in {tag for tag, attributes in page.elements if tag == "b" and attributes}
    assert page.texts.count("<b>one</b>.png") == 2  # missed, and a false alarm


def test_pictures_are_embedded_small(report):
    sources = [a["src"] for tag, a in Page(report_html(report)).elements if tag == "img"]
    assert len(sources) == 2
    with Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (320, 640))


def test_a_case_without_a_picture_says_so(report):
    assert any("No picture was drawn of it." in text for text in Page(report_html(report)).texts)  # three.png
    (report.folder / "pictures/one.jpg").write_bytes(b"no picture")
    assert not [tag for tag, _ in Page(report_html(report)).elements if tag == "img"]


def test_a_picture_outside_the_reports_folder_is_not_taken(report, tmp_path):
    from dataclasses import replace

    outside = tmp_path.parent / "outside.jpg"
    (tmp_path / "pictures/one.jpg").rename(outside)
    cases = tuple(replace(case, picture="../outside.jpg") for case in report.cases)
    assert not [tag for tag, _ in Page(report_html(replace(report, cases=cases))).elements if tag == "img"]


def test_the_gallery_is_as_long_as_asked(report):
    assert not [tag for tag, _ in Page(report_html(report, gallery=0)).elements if tag == "img"]
    assert "None." in Page(report_html(report, gallery=0)).texts


def test_an_evaluation_in_which_everything_is_undefined(tmp_path):
    cases = (Case(ImageResult(1, "p", (), ()), "one.png", 100, 100),)
    metrics = evaluate([case.result for case in cases], 0.5, "by hand", resamples=5).to_json()
    texts = Page(report_html(Report(tmp_path, metrics, cases))).texts
    assert texts.count("undefined") > 20
    assert "By subgroup" not in texts
