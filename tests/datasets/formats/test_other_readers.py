"""Exports opened by programs that read such files for a living, from another folder than their own.

Those with other licences or of more weight were tried by hand: docs/datasets.md names them with what came of it.
"""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from mammoscope.datasets import load_dataset
from mammoscope.datasets.formats import export_dataset


@pytest.fixture
def boxes(tiny_dataset: Path) -> dict[str, list[tuple[float, ...]]]:
    return {image.path.name: [box.as_tuple() for box in image.boxes] for image in load_dataset(tiny_dataset)}


def test_pycocotools_reads_coco(tiny_dataset, boxes, tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    export_dataset(tiny_dataset, tmp_path / "out", "coco")
    read = coco.COCO(str(tmp_path / "out/annotations.json"))
    for number, image in read.imgs.items():
        found = [annotation["bbox"] for annotation in read.imgToAnns[number]]
        assert [(x, y, x + width, y + height) for x, y, width, height in found] == [
            pytest.approx(box) for box in boxes[image["file_name"]]
        ]
    assert len(read.imgs) == len(boxes)


def test_torchvision_reads_pascal_voc(tiny_dataset, boxes, tmp_path: Path):
    """Its reader opens .jpg alone, so that it is given the lists and the XML, not the pictures."""
    torchvision = pytest.importorskip("torchvision")
    root = tmp_path / "VOCdevkit/VOC2012"
    export_dataset(tiny_dataset, root, "voc")
    seen = 0
    for split in ("train", "val"):
        data = torchvision.datasets.VOCDetection(str(tmp_path), image_set=split)
        for target in data.targets:
            parsed = data.parse_voc_xml(ET.parse(target).getroot())["annotation"]
            found = [
                tuple(float(one["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax"))
                for one in parsed.get("object", [])
            ]
            truth = boxes[parsed["filename"]]
            assert (root / parsed["folder"] / parsed["filename"]).is_file()
            assert found == [pytest.approx((x0 + 1, y0 + 1, x1, y1), abs=1e-3) for x0, y0, x1, y1 in truth]
            seen += 1
    assert seen == len(boxes)
    labels = [line.split(":")[0] for line in (root / "labelmap.txt").read_text().splitlines()[1:]]
    assert labels == ["background", "Mass"]


@pytest.mark.parametrize("split", [True, False])
def test_yolo_is_found_from_any_folder_and_validates_on_no_training_image(split, tiny_dataset, tmp_path: Path):
    """As Ultralytics resolves data.yaml: beside it unless it names a path; without ``val`` it refuses to train."""
    source = tiny_dataset
    if not split:
        source = tmp_path / "unsplit"
        (source / "images").mkdir(parents=True)
        content = json.loads((tiny_dataset / "annotations.json").read_text())
        for image in content["images"]:
            image.pop("split")
            (source / "images" / image["file_name"]).hardlink_to(tiny_dataset / "images" / image["file_name"])
        (source / "annotations.json").write_text(json.dumps(content))
    export_dataset(source, tmp_path / "out", "yolo")
    data = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert "path" not in data
    assert (tmp_path / "out/classes.txt").read_text() == "Mass\n"
    if not split:
        assert (data["train"], "val" in data) == ("images", False)
        return
    listed = {}
    for part in ("train", "val"):
        lines = (tmp_path / "out" / data[part]).read_text().split()
        listed[part] = {(tmp_path / "out" / line).resolve() for line in lines}
        assert all(path.is_file() for path in listed[part])
    assert not listed["train"] & listed["val"]
    assert len(listed["train"] | listed["val"]) == 12
