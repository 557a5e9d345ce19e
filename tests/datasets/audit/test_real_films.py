"""Real films: what is true of them is found, and nothing else."""

import json
from pathlib import Path

from mammoscope.datasets.audit import audit_dataset


def folder_of(tmp_path: Path, files: dict[str, Path], boxes: dict[str, list[float]] | None = None) -> Path:
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number, (name, path) in enumerate(files.items(), start=1):
        (tmp_path / "images" / name).symlink_to(path)
        words = name.split("_")
        images.append({"id": number, "file_name": name, "patient_id": words[0], "laterality": words[1][0],
                       "view": words[2].split(".")[0]})  # fmt: skip
        if boxes:
            annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": boxes[name]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Mass"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def test_stretched_films_are_stretched_and_otherwise_sound(shared_data, reader, tmp_path):
    """The first sixteen of the test split: boxes fit, sides and views are not doubted, no two are alike."""
    coco = json.loads((shared_data / "cbis-ddsm" / "test.json").read_text())
    chosen = coco["images"][:16]
    boxes = {entry["image_id"]: entry["bbox"] for entry in coco["annotations"]}
    folder = folder_of(
        tmp_path,
        {entry["file_name"]: shared_data / "cbis-ddsm" / "test" / entry["file_name"] for entry in chosen},
        {entry["file_name"]: boxes[entry["id"]] for entry in chosen},
    )

    found = {check.name: len(findings) for check, findings in audit_dataset(folder, reader=reader).by_check.items()}

    assert found.pop("stretched") == 16
    assert set(found) <= {"missing view", "hung both ways", "text burned in"}


def test_one_film_in_two_encodings_is_a_near_duplicate(shared_data, reader, tmp_path):
    files = {f"{kind}_LEFT_MLO.dcm": shared_data / "dicom" / f"MG1_{kind}.dcm" for kind in ("J2KI", "JPLY")}

    (finding,) = [
        f for f in audit_dataset(folder_of(tmp_path, files), reader=reader).findings if "near" in f.check.name
    ]

    assert finding.check.name == "near duplicate apart"
    assert set(finding.case.file_names) == set(files)
    assert "(correlation 1.000)" in finding.case.said
