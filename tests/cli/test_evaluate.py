"""`mammoscope evaluate` with a detector whose answers are known: it finds squares by their brightness."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets.files import sha256_of_file
from mammoscope.errors import MammoscopeError
from mammoscope.evaluation import TableFormat, figures_table, read_report, report_html
from mammoscope.findings import Algorithm, Box, Finding
from mammoscope.imaging import Crop
from mammoscope.inference import BundleInput, BundleMetadata, DataRole, KnownData, OperatingPoint

MASS, FALSE_ALARM = 0.9, 0.4


class SquareFinder:
    """Keeps the detector's contract; each bright region is a candidate, scored by its brightness."""

    algorithm = Algorithm("squares", "1")
    threshold = 0.5
    threshold_rule = "by hand"
    known = ()

    def __init__(self, bundle=None, *, threads=None):
        self.path, self.threads = bundle, threads
        self.bundle = SimpleNamespace(
            path=Path("squares.onnx"),
            metadata=BundleMetadata(
                name="squares",
                version="1",
                input=BundleInput(rows=320, columns=192, crop=Crop.BREAST),
                classes=("Mass",),
                operating_points=(OperatingPoint(name="default", threshold=0.5, rule="by hand", chosen_on="nothing"),),
                training_data=(),
                made_with="a pencil",
                known_data=self.known,
            ),
        )

    def candidates(self, mammogram):
        n, _, stats, _ = cv2.connectedComponentsWithStats((mammogram.pixels > 10_000).astype(np.uint8))
        found = []
        for x, y, width, height, _ in stats[1:n]:  # numpy's numbers, as a network's
            score = mammogram.pixels[y + height // 2, x + width // 2] / np.float32(65535)
            found.append(Finding(Box.from_xywh(x, y, width, height), np.float32(round(float(score), 2))))
        return tuple(sorted(found, key=lambda finding: -finding.score))


def draw(path, squares):
    pixels = np.zeros((300, 200), np.uint16)
    for x, y, score in squares:
        pixels[y : y + 30, x : x + 20] = round(score * 65535)
    pixels[0, 0] = 1  # a blank picture would not be read
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """Three patients, four images: found; found beside a false alarm; missed; nothing there."""
    monkeypatch.setattr("mammoscope.inference.Detector", SquareFinder)
    images = tmp_path / "images"
    images.mkdir()
    names = ["00001_LEFT_CC.png", "00001_LEFT_MLO.png", "00002_LEFT_CC.png", "00003_LEFT_CC.png"]
    draw(images / names[0], [(50, 60, MASS)])
    draw(images / names[1], [(50, 60, MASS), (120, 200, FALSE_ALARM)])
    draw(images / names[2], [])
    draw(images / names[3], [])
    content = {
        "categories": [{"id": 7, "name": "Mass"}, {"id": 8, "name": "Calcification"}],
        "images": [{"id": n, "file_name": name, "height": 300, "width": 200} for n, name in enumerate(names)],
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": 8 if n == 2 else 7, "bbox": [50, 60, 20, 30]} for n in range(3)
        ],
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, *options):
    source = ["--coco", folder / "x.json", "--images", folder / "images", "--out", folder / "report"]
    return CliRunner().invoke(app, ["evaluate", *map(str, [*source, "--resamples", 20, *options])])


def metrics(folder):
    return json.loads((folder / "report/metrics.json").read_text())


def test_figures_predictions_report_and_pictures(coco):
    result = run(coco)
    assert result.exit_code == 0, result.output
    figures = metrics(coco)
    assert figures["ap50"] == pytest.approx(67 / 101)  # two of three lesions at precision 1
    assert (figures["precision"], figures["recall"]) == (1, pytest.approx(2 / 3))
    assert figures["f1"] == pytest.approx(0.8)
    assert (figures["n_images"], figures["n_boxes"], figures["n_patients"]) == (4, 3, 3)
    assert (figures["threshold"], figures["model"]) == (0.5, "squares")
    assert figures["froc"]["0.25"] == pytest.approx(2 / 3)
    assert set(figures["intervals"]) >= {"ap50", "precision", "recall", "f1", "froc_0.25"}
    predictions = json.loads((coco / "report/predictions.json").read_text())
    assert [(p["image_id"], p["category_id"], p["bbox"], round(p["score"], 6)) for p in predictions] == [
        (0, 7, [50, 60, 20, 30], 0.9),
        (1, 7, [50, 60, 20, 30], 0.9),
        (1, 7, [120, 200, 20, 30], 0.4),
    ]
    assert figures["bundle"]["made_with"] == "a pencil"
    report = read_report(coco / "report")
    assert [(c.file_name, c.result.patient, c.picture) for c in report.cases[:1]] == [
        ("00001_LEFT_CC.png", "00001", "pictures/00001_LEFT_CC.jpg")
    ]
    assert [c.result.truth for c in report.cases] == [*[(Box(50, 60, 70, 90),)] * 3, ()]
    assert report.cases[2].box_attributes == ({"label": "Calcification"},)
    assert "| F1 | 0.800 |" in (coco / "report/report.md").read_text()
    pictures = sorted(path.name for path in (coco / "report/pictures").iterdir())
    assert pictures == ["00001_LEFT_CC.jpg", "00001_LEFT_MLO.jpg", "00002_LEFT_CC.jpg", "00003_LEFT_CC.jpg"]


def test_the_missed_lesion_is_drawn_green(coco):
    run(coco)
    picture = cv2.imread(str(coco / "report/pictures/00002_LEFT_CC.jpg")).astype(int)
    green = (picture[..., 1] - picture[..., 0] > 60) & (picture[..., 1] - picture[..., 2] > 60)
    rows, columns = np.nonzero(green)
    assert abs(rows.min() - 60) <= 3
    assert abs(rows.max() - 90) <= 3
    assert abs(columns.min() - 50) <= 3
    assert abs(columns.max() - 70) <= 3


def test_another_threshold(coco):
    run(coco, "--threshold", "0.3")
    figures = metrics(coco)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["threshold_rule"] == "given with --threshold"
    assert figures["ap50"] == pytest.approx(67 / 101)


def test_of_several_classes_only_the_candidates_of_that_label(coco, monkeypatch):
    class TwoClasses(SquareFinder):
        def __init__(self, bundle=None, *, threads=None):
            super().__init__(bundle, threads=threads)
            self.bundle.metadata = self.bundle.metadata.model_copy(update={"classes": ("Mass", "Calcification")})

        def candidates(self, mammogram):
            found = super().candidates(mammogram)
            return tuple(replace(f, label="Calcification") if f.score < MASS else f for f in found)

    run(coco, "--label", "Mass", "--threshold", "0.1")
    assert metrics(coco)["false_positives"] == 1
    monkeypatch.setattr("mammoscope.inference.Detector", TwoClasses)
    run(coco, "--label", "Mass", "--threshold", "0.1", "--force")
    assert (metrics(coco)["true_positives"], metrics(coco)["false_positives"]) == (2, 0)


def test_one_label_only(coco):
    run(coco, "--label", "Mass")
    assert metrics(coco)["recall"] == 1
    assert sum(len(case.result.truth) for case in read_report(coco / "report").cases) == 2
    assert isinstance(run(coco, "--label", "Cyst").exception, MammoscopeError)


def groups(folder):
    return {
        f"{group['attribute']} {group['value']}": (group["n_images"], group["n_boxes"], group["recall"])
        for group in metrics(folder)["subgroups"]
    }


def test_subgroups(coco):
    run(coco)
    by_itself = groups(coco)
    assert by_itself["view CC"] == (3, 2, 0.5)
    assert by_itself["view MLO"] == (1, 1, 1)
    assert by_itself["laterality L"] == (4, 3, pytest.approx(2 / 3))
    assert "| view: CC | 3 | 2 | 3 |" in (coco / "report/report.md").read_text()
    run(coco, "--by", "label", "--force")
    assert groups(coco) == {"label Calcification": (1, 1, 0), "label Mass": (2, 2, 1)}


def test_an_attribute_that_is_not_there_is_refused_before_anything_is_read(coco):
    error = run(coco, "--by", "colour").exception
    assert isinstance(error, MammoscopeError)
    assert "no attribute 'colour'; it has label, laterality, size, view." in str(error)
    assert not (coco / "report").exists()


def test_pictures_of_an_earlier_evaluation_go(coco):
    run(coco)
    (coco / "report/pictures/of-another-data-set.jpg").write_bytes(b"")
    run(coco, "--pictures", "1", "--force")
    drawn = {"00001_LEFT_CC.jpg", "00002_LEFT_CC.jpg"}  # the first in order, and the only miss
    assert {path.name for path in (coco / "report/pictures").iterdir()} == drawn
    run(coco, "--pictures", "none", "--force")
    assert {path.name for path in (coco / "report/pictures").iterdir()} == drawn - {"00001_LEFT_CC.jpg"}
    assert isinstance(run(coco, "--pictures", "some").exception, MammoscopeError)


def test_an_unreadable_image_is_counted_and_named(coco):
    whole = (coco / "images/00001_LEFT_CC.png").read_bytes()
    (coco / "images/00001_LEFT_CC.png").write_bytes(whole[: len(whole) // 2])
    result = run(coco)
    assert result.exit_code == 1
    assert "00001_LEFT_CC.png" in result.output
    figures = metrics(coco)
    assert (figures["n_unreadable"], figures["n_images"]) == (1, 4)
    assert figures["recall"] == pytest.approx(1 / 3)
    assert "1 unreadable images" in (coco / "report/report.md").read_text()


def test_unknown_patients_are_said(coco):
    content = json.loads((coco / "x.json").read_text())
    for image in content["images"]:
        (coco / "images" / image["file_name"]).rename(coco / "images" / f"scan{image['id']}.png")
        image["file_name"] = f"scan{image['id']}.png"
    (coco / "x.json").write_text(json.dumps(content))
    result = run(coco)
    assert result.exit_code == 0
    assert "No patient is known" in result.output
    assert metrics(coco)["n_patients"] == 4
    assert "intervals are over images" in metrics(coco)["note"]


@pytest.mark.parametrize("options", [[], ["--dataset", "a", "--coco", "b"], ["--coco", "b"]])
def test_the_images_are_given_once(options, tmp_path):
    result = CliRunner().invoke(app, ["evaluate", "--out", str(tmp_path / "report"), *options])
    assert isinstance(result.exception, MammoscopeError)
    assert not (tmp_path / "report").exists()


def test_what_is_there_stays_unless_forced(coco):
    run(coco)
    before = (coco / "report/metrics.json").read_bytes()
    error = run(coco, "--threshold", "0.1").exception
    assert isinstance(error, MammoscopeError)
    assert "--force" in str(error)
    assert (coco / "report/metrics.json").read_bytes() == before
    assert run(coco, "--threshold", "0.1", "--force").exit_code == 0
    assert metrics(coco)["threshold"] == 0.1


def test_ten_figures_on_the_terminal_all_as_json(coco):
    shown = run(coco).output
    assert shown.count("│ ") == 3 * 10 + 2 or shown.count("\n│") == 10
    assert f"mammoscope report {coco / 'report'}" in shown.replace("\n", "")
    printed = json.loads(run(coco, "--json", "--force").stdout)
    assert printed == metrics(coco)


def test_curves_are_left_as_drawings_and_numbers(coco):
    run(coco)
    for name in ("froc", "precision_recall"):
        assert (coco / f"report/{name}.svg").read_text().startswith("<svg")
        assert (coco / f"report/{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (coco / "report/curves.csv").read_text().startswith("chart,line,x_name,y_name,x,y,low,high\nFROC,IoU 0.5,")


@pytest.mark.parametrize(
    ("role", "said"),
    [
        (
            DataRole.TRAINED,
            "learnt from 2 of these 3 patients (films): its figures here say nothing about new patients",
        ),
        (DataRole.CHOSEN, "chosen on 2 of these 3 patients (films): its figures here are optimistic"),
        (DataRole.CALIBRATED, "calibrated on 2 of these 3 patients (films): its calibration here is optimistic"),
    ],
)
def test_data_that_the_model_knows_is_noticed(coco, monkeypatch, role, said):
    files = [sha256_of_file(coco / f"images/{name}.png") for name in ("00001_LEFT_CC", "00001_LEFT_MLO")]
    known = KnownData.of(role, "films", ("00001", "00002", "00099"), files, salt="of the films")
    monkeypatch.setattr(SquareFinder, "known", (known,))
    result = run(coco)
    assert said in result.stderr
    assert "2 of 4 image files are the same" in result.stderr
    figures = metrics(coco)
    assert said in figures["note"]
    assert [(o["role"], o["patients"], o["images"]) for o in figures["overlaps"]] == [(str(role), 2, 2)]
    assert said in report_html(read_report(coco / "report"))
    assert "| squares * |" in figures_table([read_report(coco / "report")]).written(TableFormat.MARKDOWN)
    assert "00001" not in json.dumps(figures["known_data"])


def test_same_names_of_other_people_are_told_apart(coco, monkeypatch):
    known = KnownData.of(DataRole.TRAINED, "films", ("00001",), ("0" * 64,), salt="x")
    monkeypatch.setattr(SquareFinder, "known", (known,))
    assert "no image file is the same, so they may be other people of the same identifiers" in run(coco).stderr


def test_other_patients_are_no_overlap_and_silence_is_said(coco, monkeypatch):
    monkeypatch.setattr(SquareFinder, "known", (KnownData.of(DataRole.TRAINED, "films", ("00099",), salt="x"),))
    run(coco)
    assert metrics(coco)["overlaps"] == []
    assert "not known" not in metrics(coco)["note"]
    monkeypatch.setattr(SquareFinder, "known", ())
    run(coco, "--force")
    assert "does not say which patients it learnt from" in metrics(coco)["note"]
