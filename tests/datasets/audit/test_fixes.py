import json
import shutil
from typing import Any

import pytest

from mammoscope.datasets import DatasetError, load_dataset, read_index, split_dataset
from mammoscope.datasets.audit import fix_dataset

A = "w1_R_CC.dcm"


def plant(folder: Any) -> dict[str, int]:
    """A copy of an image with its boxes, a box over the edge, one without area, one outside the image."""
    shutil.copy(folder.file(A), folder.file("copy.dcm"))
    coco = folder.coco
    owner = folder.entry(coco, A)["id"]

    def change(content: dict[str, Any]) -> None:
        content["images"].append({**folder.entry(content, A), "id": 800, "file_name": "copy.dcm"})
        content["annotations"] += [{**box, "id": 700 + n, "image_id": 800}
                                   for n, box in enumerate(folder.boxes(content, A))]  # fmt: skip
        other = folder.entry(content, "w2_R_CC.dcm")["id"]
        more = {"image_id": other, "category_id": 1, "iscrowd": 0}
        content["annotations"] += [
            {"id": 900, "bbox": [280, 180, 30, 40], "area": 1200, **more},
            {"id": 901, "bbox": [280, 180, 0, 40], "area": 0, **more},
        ]

    folder.change(change)
    return {"image": owner}


def test_safe_repairs_are_made_logged_and_can_be_undone(folder):
    plant(folder)
    before = (folder.path / "annotations.json").read_bytes()

    fixes = fix_dataset(folder.audit())

    assert [(fix.change, fix.file_name, fix.box) for fix in fixes] == [
        ("image removed", "copy.dcm", None), ("box cut", "w2_R_CC.dcm", 900), ("box removed", "w2_R_CC.dcm", 901)
    ]  # fmt: skip
    assert folder.found() == {}
    cut = next(entry for entry in folder.coco["annotations"] if entry["id"] == 900)
    assert (cut["bbox"], cut["area"]) == ([280, 180, 20, 40], 800)
    assert not any(entry["id"] in (700, 901) for entry in folder.coco["annotations"])
    assert folder.file("copy.dcm").exists()
    assert (folder.path / "annotations-before-audit-1.json").read_bytes() == before
    log = [json.loads(line) for line in (folder.path / "audit.jsonl").read_text().splitlines()]
    assert [line["change"] for line in log] == [fix.change for fix in fixes]
    assert log[1] | {"at": ""} == {
        "at": "", "change": "box cut", "image_id": fixes[1].image_id, "file_name": "w2_R_CC.dcm", "box": 900,
        "why": "it reached over the image's edge", "before": [280, 180, 30, 40], "after": [280, 180, 20, 40],
        "backup": "annotations-before-audit-1.json",
    }  # fmt: skip
    assert len(load_dataset(folder.path)) == 12
    index = read_index(folder.path)
    assert index is not None
    assert index.table.num_rows == 12


def test_the_log_is_only_added_to(folder):
    plant(folder)
    fix_dataset(folder.audit())
    first = (folder.path / "audit.jsonl").read_text()
    folder.change(lambda content: content["annotations"][0].update(bbox=[1, 1, 0, 0]))

    fix_dataset(folder.audit())

    assert (folder.path / "audit.jsonl").read_text().startswith(first)
    assert (folder.path / "annotations-before-audit-2.json").exists()
    assert fix_dataset(folder.audit()) == ()


def test_a_duplicate_with_other_boxes_is_not_dropped(folder):
    plant(folder)
    more = {"id": 950, "image_id": 800, "category_id": 1, "bbox": [260, 200, 20, 20], "area": 400, "iscrowd": 0}
    folder.change(lambda content: content["annotations"].append(more))

    assert "image removed" not in [fix.change for fix in fix_dataset(folder.audit())]
    assert folder.found() == {"exact duplicate": {A, "copy.dcm"}}


def test_a_locked_split_is_locked_anew(folder):
    shutil.copy(folder.file(A), folder.file("copy.dcm"))
    folder.change(lambda c: c["images"].append({**folder.entry(c, A), "id": 800, "file_name": "copy.dcm"}))
    folder.change(lambda c: c.update(annotations=[]))
    split_dataset(folder.path, val=0.4, force=True)
    old = json.loads((folder.path / "splits.json").read_text())

    assert [fix.change for fix in fix_dataset(folder.audit())] == ["image removed"]

    new = json.loads((folder.path / "splits.json").read_text())
    assert new["hash"] != old["hash"]
    assert sum(new["images"].values()) == sum(old["images"].values()) - 1 == 12
    assert new["arguments"] == old["arguments"]
    assert len(load_dataset(folder.path)) == 12


def test_a_split_that_was_changed_is_not_locked_over(folder):
    plant(folder)
    (folder.path / "splits.json").write_text(json.dumps({"hash": "of something else"}))
    before = (folder.path / "annotations.json").read_bytes()

    with pytest.raises(DatasetError, match="nothing was repaired"):
        fix_dataset(folder.audit())

    assert (folder.path / "annotations.json").read_bytes() == before
    assert not (folder.path / "audit.jsonl").exists()
