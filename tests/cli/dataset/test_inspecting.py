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
