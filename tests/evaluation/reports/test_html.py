"""The page: whole in itself, with the figures, and showing names as they are."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mammoscope.evaluation import Case, ImageResult, Report, RunRecord, evaluate, figures_by, report_html
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
    outside = tmp_path.parent / "outside.jpg"
    (tmp_path / "pictures/one.jpg").rename(outside)
    cases = tuple(replace(case, picture="../outside.jpg") for case in report.cases)
    assert not [tag for tag, _ in Page(report_html(replace(report, cases=cases))).elements if tag == "img"]


def test_the_gallery_is_as_long_as_asked(report):
    assert "three.png" in Page(report_html(report)).texts  # the second of the misses
    assert "three.png" not in Page(report_html(report, gallery=1)).texts
    without = Page(report_html(report, gallery=0))
    assert not [tag for tag, _ in without.elements if tag == "img"]
    assert "This page was made without images of the worst cases." in without.texts
    assert "<b>one</b>.png" not in without.texts  # no file's name either


def test_the_data_card_the_recipe_and_the_checklist_are_on_it(report):
    bundle = BUNDLE | {"recipe": {"detector": {"backbone": "resnet50"}}}
    texts = Page(report_html(replace(report, metrics=report.metrics | {"bundle": bundle}))).texts
    for text in ("images by view", "Sizes of the lesions", "detector.backbone", "resnet50", "CLAIM checklist", "44"):
        assert text in texts, text
    assert "Not known: give the run's folder with --run." in Page(report_html(report)).texts


def test_the_curves_of_the_run(report):
    assert "Training loss" not in Page(report_html(report)).texts
    steps = {10: {"loss": 1.0, "learning_rate": 0.1}, 20: {"loss": 0.5, "learning_rate": 0.05}}
    run = RunRecord({"schedule": {"batch": 8}}, {"torch": "2.11"}, steps, {20: {"ap50": 0.4}})
    texts = Page(report_html(report, run=run)).texts
    for text in ("Training", "Training loss", "Learning rate, highest 0.1", "On validation", "schedule.batch"):
        assert text in texts, text


def test_reliability_before_and_after(report):
    assert "The model's scores are not calibrated." in " ".join(Page(report_html(report)).texts)
    # log odds doubled: the hit at 0.9 was 0.75 for the network, the miss at 0.8 was 2/3
    curve = {"slope": 2.0, "intercept": 0.0, "rule": "a mark hits", "fitted_on": "val"}
    texts = Page(
        report_html(replace(report, metrics=report.metrics | {"bundle": BUNDLE | {"calibration": curve}}))
    ).texts
    said = " ".join(texts)
    assert "before calibration" in texts
    assert "Expected calibration error 0.450" in said  # (|0.9 - 1| + |0.8 - 0|) / 2
    assert f"before calibration {(0.25 + 2 / 3) / 2:.3f}." in said
    assert "a score is the probability that a mark hits" in said


def test_roc_curves_where_there_are_normals(report):
    assert "ROC" not in Page(report_html(report)).texts
    normal = Case(ImageResult(9, "s", (), (Finding(A, 0.3),), laterality="L"), "n.png", 100, 100)
    cases = (*report.cases, normal)
    metrics = evaluate([case.result for case in cases], 0.5, "by hand", resamples=5).to_json()
    texts = Page(report_html(replace(report, cases=cases, metrics=metrics))).texts
    assert "ROC" in texts
    assert "ROC AUC by image (3 with a lesion, 1 without)" in texts


def test_an_evaluation_in_which_everything_is_undefined(tmp_path):
    cases = (Case(ImageResult(1, "p", (), ()), "one.png", 100, 100),)
    metrics = evaluate([case.result for case in cases], 0.5, "by hand", resamples=5).to_json()
    texts = Page(report_html(Report(tmp_path, metrics, cases))).texts
    assert texts.count("undefined") > 20
    assert "By subgroup" not in texts
