import json
from pathlib import Path

import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.audit.measures import MASK, THUMBNAIL, ImageFile, Measures, measure_files
from mammoscope.datasets.audit.run import audit_dataset


class Counting:
    """A reader that notes what it is asked for."""

    def __init__(self, reader):
        self.reader, self.names = reader, []

    def read(self, path, name=None):
        self.names.append(name)
        return self.reader.read(path, name)


def files_of(folder) -> list[ImageFile]:
    return [ImageFile(e["id"], e["file_name"], folder.file(e["file_name"])) for e in folder.coco["images"]]


def test_a_pass_goes_on_where_it_was_ended(folder):
    """Ten of twelve files were measured, the eleventh half written; one has changed since, one was touched only."""
    cache = folder.path / ".audit" / "measures.jsonl"
    lines = cache.read_bytes().splitlines(keepends=True)
    measured = [json.loads(line)["name"] for line in lines]
    cache.write_bytes(b"".join(lines[:10]) + lines[10][:200])
    changed, touched = measured[0], measured[1]
    folder.change_dicom(changed, lambda dataset: setattr(dataset, "StationName", "other bytes"))
    folder.file(touched).touch()
    reader = Counting(folder.reader)
    steps = []

    found = measure_files(
        folder.path, files_of(folder), resume=True, jobs=2, reader=reader, progress=lambda *step: steps.append(step)
    )

    assert sorted(reader.names) == sorted([changed, *measured[10:]])
    assert len(found) == 12
    assert steps[0] == (9, 12)
    assert steps[-1] == (12, 12)
    again = Counting(folder.reader)
    assert measure_files(folder.path, files_of(folder), resume=True, reader=again) == found
    assert again.names == []


def test_without_resume_everything_is_measured_anew(folder):
    reader = Counting(folder.reader)

    measure_files(folder.path, files_of(folder)[:3], jobs=1, reader=reader)

    assert len(reader.names) == 3


def test_what_another_version_measured_is_not_believed(folder):
    cache = folder.path / ".audit" / "measures.jsonl"
    cache.write_text("".join(json.dumps({**json.loads(line), "version": 0}) + "\n" for line in cache.open()))
    reader = Counting(folder.reader)

    measure_files(folder.path, files_of(folder)[:1], resume=True, reader=reader)

    assert len(reader.names) == 1


def test_measures_survive_as_json(folder):
    line = json.loads((folder.path / ".audit" / "measures.jsonl").read_text().splitlines()[0])

    measures = Measures.from_json(line["measures"])

    assert measures.to_json() == json.loads(json.dumps(line["measures"])) | {
        "content": measures.content, "glyphs": measures.glyphs}  # fmt: skip
    assert measures.breast_mask.shape == MASK
    assert measures.picture.shape == (THUMBNAIL, THUMBNAIL)
    assert (measures.rows, measures.columns, measures.bits) == (400, 300, 12)
    assert measures.square_pixels is True
    assert abs(float(measures.breast_mask.mean()) - measures.breast) < 1e-4


@pytest.mark.parametrize(
    ("content", "said"), [(None, "is not a data set's folder"), ("{", "not valid JSON"), ("[]", "not a COCO file")]
)
def test_what_is_no_data_set_is_said(tmp_path: Path, content, said):
    if content is not None:
        (tmp_path / "annotations.json").write_text(content)

    with pytest.raises(DatasetError, match=said):
        audit_dataset(tmp_path)


def test_nonsense_in_entries_is_told_not_stumbled_over(folder):
    """Each image and annotation that no importer would write, with how many findings there must be at least."""

    def change(content):
        content["images"] += [
            {"id": 99, "file_name": "gone.png", "height": "x", "width": -4, "patient_id": None, "laterality": 7,
             "view": [1], "split": {"a": 1}, "spacing_mm": "nan", "attributes": [1], "origin": 3},
        ]  # fmt: skip
        more = {"image_id": 1, "category_id": 1}
        content["annotations"] += [
            {"id": 901, "bbox": [1e308, 1, 1e308, 1], **more}, {"id": 902, "bbox": [5, 5, -3, 2], **more}, 7, None,
            {"id": 903, "bbox": [200, 200, 30, 30], "segmentation": {"counts": [1]}, **more},
            {"id": 904, "bbox": [200, 200, 30, 30], "segmentation": [["a"], 3], **more},
        ]  # fmt: skip
        content["categories"].append(5)

    folder.change(change)
    found = [finding.check.name for finding in folder.audit().findings]

    assert {name: found.count(name) for name in set(found)} | {"box off breast": 0, "boxes placed otherwise": 0} == {
        "broken entry": 3, "unreadable file": 1, "no patient": 1, "box without area": 1, "mask of another image": 1,
        "box twice": 1,
        "box off breast": 0, "boxes placed otherwise": 0,
    }  # fmt: skip


def test_a_name_that_leaves_the_folder_is_not_read(folder):
    folder.change(lambda content: content["images"].append({"id": 50, "file_name": "../../secret.png"}))

    assert [finding.check.name for finding in folder.audit().findings] == ["broken entry"]
