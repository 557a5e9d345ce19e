"""`mammoscope dataset audit` and `card`, as a user runs them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two noisy pictures of one patient; the second's box reaches over the edge, and its twin has no area."""
    made = tmp_path / "set"
    (made / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []
    for number, view in enumerate(("CC", "MLO"), start=1):
        picture = np.zeros((120, 80), np.uint8)
        cv2.ellipse(picture, (0, 60), (50, 45), 0, 0, 360, 120, -1)
        picture = np.clip(picture + rng.integers(0, 30, picture.shape) * (picture > 0), 0, 255).astype(np.uint8)
        cv2.imwrite(str(made / "images" / f"{view}.png"), picture)
        images.append({"id": number, "file_name": f"{view}.png", "height": 120, "width": 80, "patient_id": "one",
                       "laterality": "L", "view": view})  # fmt: skip
    annotations = [{"id": n, "image_id": 2, "category_id": 1, "bbox": bbox, "area": 1, "iscrowd": 0}
                   for n, bbox in enumerate(([-5, 50, 20, 20], [10, 50, 0, 20]), start=1)]  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Mass"}],
               "info": {"description": "Two | views", "licence": "CC0", "citation": "A. Nobody 2020"}}  # fmt: skip
    (made / "annotations.json").write_text(json.dumps(content))
    return made


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def refused(*arguments: object) -> str:
    """The sentence that `mammoscope.cli.main` ends with, and code 2."""
    done = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    assert isinstance(done.exception, MammoscopeError)
    return str(done.exception)


def test_errors_end_with_1_and_what_is_mended_does_not(folder: Path, tmp_path: Path):
    said = run("audit", folder, "--jobs", 1, "--report", tmp_path / "page.html", code=1)

    assert "error box without area, 1:" in said
    assert "2 images: 1 error, 1 warning, 0 notes." in said
    assert "data:image/jpeg" in (tmp_path / "page.html").read_text()

    said = run("audit", folder, "--jobs", 1, "--resume", "--fix", "--json")

    assert {fix["change"] for fix in json.loads(said)["fixed"]} == {"box cut", "box removed"}
    assert json.loads(said)["findings"] == []


def test_a_report_that_cannot_be_written_is_said_before_anything_is_measured(folder: Path, tmp_path: Path):
    said = refused("audit", folder, "--report", tmp_path / "nowhere" / "page.html")

    assert "cannot be written" in said
    assert not (folder / ".audit").exists()


def test_what_is_no_data_set_is_bad_usage(tmp_path: Path):
    assert "is not a data set's folder" in refused("audit", tmp_path)


def test_a_card_in_markdown_and_html(folder: Path, tmp_path: Path):
    run("audit", folder, "--jobs", 1, "--fix")

    run("card", folder, "--out", tmp_path / "card.md")
    run("card", folder, "--out", tmp_path / "card.html")

    text = (tmp_path / "card.md").read_text()
    assert text.startswith("# Two \\| views\n")
    assert "| licence | CC0 |" in text
    assert "| citation | A. Nobody 2020 |" in text
    assert "| images by view | CC: 1, MLO: 1 |" in text
    # The cut box has 15 x 20 of 80 x 120 pixels: a side of 17.7 %
    assert " 17.5 to 20.0 %        1  ####" in text
    page = (tmp_path / "card.html").read_text()
    assert "<h1>Two | views</h1>" in page
    assert "<svg" in page
    assert "is written as .md or .html" in refused("card", folder, "--out", tmp_path / "card.pdf")


def test_a_card_gives_the_licence_of_the_original(folder: Path, tmp_path: Path):
    """A re-release says CC0; by their names the images are those of a collection that says otherwise."""
    run("audit", folder, "--jobs", 1, "--fix")
    content = json.loads((folder / "annotations.json").read_text())
    for number, entry in enumerate(content["images"]):
        name = f"Mass-Test_P_0001{number}_LEFT_CC_png.rf.0123456789abcdef.png"
        (folder / "images" / entry["file_name"]).rename(folder / "images" / name)
        entry["file_name"] = name
    (folder / "annotations.json").write_text(json.dumps(content))

    run("card", folder, "--out", tmp_path / "card.md")

    text = (tmp_path / "card.md").read_text()
    assert "| licence | CC0 |" in text
    assert "| licence of the original | 2 of 2 images are named as those of CBIS-DDSM: CC BY 3.0. Cite: " in text
    assert "licence of the original" not in _card_of(folder, tmp_path, "CBIS-DDSM")


def _card_of(folder: Path, tmp_path: Path, description: str) -> str:
    content = json.loads((folder / "annotations.json").read_text())
    content["info"]["description"] = description
    (folder / "annotations.json").write_text(json.dumps(content))
    run("card", folder, "--out", tmp_path / "card.md", "--force")
    return (tmp_path / "card.md").read_text()


def test_an_import_ends_with_its_account(folder: Path, tmp_path: Path):
    tasks = [
        {"id": 1, "data": {"image": "CC.png"}, "annotations": [{"id": 1, "result": [
            {"id": "a", "type": "rectanglelabels", "original_width": 80, "original_height": 120,
             "value": {"x": 10, "y": 10, "width": 20, "height": 30, "rectanglelabels": ["Mass"]}},
            {"id": "b", "type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["Mass"]}}]}]},
        {"id": 2, "data": {"image": "MLO.png"}, "annotations": []},
    ]  # fmt: skip
    (tmp_path / "ls.json").write_text(json.dumps(tasks))
    given = [
        "--annotations",
        tmp_path / "ls.json",
        "--images",
        folder / "images",
        "--patient-pattern",
        "(?P<patient>.)",
    ]

    said = run("import", "label-studio", *given, "--out", tmp_path / "out")

    lines = {" ".join(line.split()[:-1]) if line.split()[-1:] == ["boxes"] else line for line in said.splitlines()}
    assert "marks taken 1" in lines
    assert "a keypoint, which has no area (1), the first at" in " ".join(said.split())
    assert "unannotated images 1 set aside by train and evaluate" in " ".join(said.split())
    assert "of them 1 unannotated" in run("show", tmp_path / "out")
    said = run("import", "label-studio", *given, "--out", tmp_path / "all", "--unmarked", "negative")
    assert "negative images 1 said to show no lesion unannotated images 0" in " ".join(said.split())
    assert "--unmarked maybe: there are negative, unannotated" in refused(
        "import", "label-studio", *given, "--out", tmp_path / "x", "--unmarked", "maybe"
    )  # fmt: skip
