"""The real, stretched copy of CBIS-DDSM, un-stretched on import, beside two of its mammograms at native size."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mammoscope.datasets import import_coco, load_dataset
from mammoscope.findings import Box


@pytest.fixture(scope="module")
def native_boxes(shared_data) -> dict[str, list[Box]]:
    """Boxes made on the native images, in fractions of their sides, by name in the stretched copy."""
    boxes: dict[str, list[Box]] = {}
    for line in (shared_data / "cbis-ddsm/native/CBISBoundingBoxes_png.txt").read_text().splitlines():
        name, *figures = line.rsplit(" ", 6)  # the names hold no space, yet six figures always end the line
        x0, y0, x1, y1, rows, columns = map(float, figures)
        patient = "_".join(name.split("=")[0].removeprefix("Mass-Test_P_").split("_")[:3])
        boxes.setdefault(patient, []).append(Box(x0 / columns, y0 / rows, x1 / columns, y1 / rows))
    assert set(boxes) == {"00016_LEFT_CC", "00116_RIGHT_MLO"}
    return boxes


@pytest.fixture(scope="module")
def imported(shared_data, native_boxes, tmp_path_factory):
    cbis = shared_data / "cbis-ddsm"
    coco = json.loads((cbis / "test.json").read_text())
    coco["images"] = [image for image in coco["images"] if Path(image["file_name"]).stem in native_boxes]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    folder = tmp_path_factory.mktemp("cbis")
    (folder / "two.json").write_text(json.dumps(coco))
    import_coco(folder / "two.json", cbis / "test", folder / "out", native_sizes=cbis / "native_size_estimate.csv")
    return {image.path.stem: image for image in load_dataset(folder / "out")}


@pytest.mark.parametrize("name", ["00016_LEFT_CC", "00116_RIGHT_MLO"])
def test_boxes_agree_with_those_made_on_the_native_image(imported, native_boxes, name):
    image = imported[name]
    ours = [Box(b.x0 / image.columns, b.y0 / image.rows, b.x1 / image.columns, b.y1 / image.rows) for b in image.boxes]
    assert len(ours) == len(native_boxes[name])
    for box in native_boxes[name]:
        nearest = min(max(abs(a - b) for a, b in zip(box.as_tuple(), other.as_tuple(), strict=True)) for other in ours)
        assert nearest < 0.02


@pytest.mark.parametrize("name", ["00016_LEFT_CC", "00116_RIGHT_MLO"])
def test_the_aspect_is_that_of_the_native_image(shared_data, imported, name):
    with Image.open(shared_data / "cbis-ddsm/native" / f"Mass-Test_P_{name}=full.png") as native:
        aspect = native.width / native.height
    image = imported[name]
    assert image.columns / image.rows == pytest.approx(aspect, rel=0.03)
    assert image.columns == 800
    assert image.rows > 800
