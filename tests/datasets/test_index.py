import json
import os
import shutil
import subprocess
import sys

import cv2
import pytest

from mammoscope.cluster import ClusterError
from mammoscope.datasets import (
    DatasetError,
    Hashes,
    ImportedBox,
    ImportedImage,
    import_coco,
    load_dataset,
    open_index,
    read_index,
    split_dataset,
    write_dataset,
    write_index,
)
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.index import INDEX, attribute_columns, check_locks, density_of
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

NOTHING = ImageMarks((), Silence.NEGATIVE)


@pytest.fixture
def folder(collection, tmp_path):
    """Three images of 40 rows and 50 columns; the second is the first, named otherwise."""
    boxes = (ImportedBox(Box(5, 10, 25, 30), "Mass"), ImportedBox(Box(0, 0, 2, 2), "Mass", crowd=True))
    first, second, third = (collection.images / name for name in ("00001_LEFT_CC.png", "x.png", "00002_LEFT_CC.png"))
    shutil.copy(first, second)
    write_dataset(
        [
            ImportedImage(
                first, 40, 50, "p1", ImageMarks(boxes, Silence.NEGATIVE),
                study="s", laterality=Laterality.LEFT, view=View.MLO, scanner="ACME",
                spacing_mm=0.07, density=3, pathology="BENIGN", split="train", fold=2,
                attributes={"birads": "4", "implant": True}, origin={"file_name": "a.dcm"},
            ),
            ImportedImage(second, 40, 50, "p1", NOTHING, split="train", attributes={"birads": "4a", "density": "B"}),
            ImportedImage(third, 40, 50, "p2", NOTHING, split="val"),
        ],
        tmp_path / "set",
        name="drawn",
    )  # fmt: skip
    return tmp_path / "set"


FIRST = {
    "id": 1, "file_name": "00001_LEFT_CC.png", "rows": 40, "columns": 50, "patient": "p1", "study": "s",
    "laterality": "L", "view": "MLO", "scanner": "ACME", "density": 3, "pathology": "BENIGN", "split": "train",
    "fold": 2, "review": "annotated", "n_boxes": 1, "n_crowds": 1, "labels": ["Mass"], "origin": "a.dcm",
    "birads": "4", "implant": True, "file_sha256": None,
}  # fmt: skip


def test_a_row_an_image(folder):
    table = read_index(folder).table
    rows = table.to_pylist()
    assert {name: rows[0][name] for name in FIRST} == FIRST
    assert rows[0]["spacing_mm"] == 0.07
    # a box of 20 by 20 in 40 by 50: root of a fifth
    assert rows[0]["box_sides"] == pytest.approx([44.72], abs=0.01)
    assert (rows[1]["density"], rows[1]["birads"], rows[1]["implant"]) == (2, "4a", None)
    assert [row["split"] for row in rows] == ["train", "train", "val"]


def test_other_programs_read_it(folder):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    path = str(folder / INDEX)

    frame = pandas.read_parquet(path)
    assert frame[frame.view == "MLO"].file_name.tolist() == ["00001_LEFT_CC.png"]
    assert list(frame.labels[0]) == ["Mass"]
    columns = polars.read_parquet(path)
    assert columns.filter(polars.col("density") >= 2)["id"].to_list() == [1, 2]
    assert columns["labels"].to_list() == [["Mass"], [], []]
    rows = duckdb.sql(f"select split, count(*), sum(n_boxes) from '{path}' group by split order by split").fetchall()
    assert rows == [("train", 2, 1), ("val", 1, 0)]


@pytest.mark.slow
def test_hashes_are_made_when_asked_for_and_stay(folder):
    table = write_index(folder, hashes=Hashes.PIXELS, processes=1).table
    files, pixels = (table.column(name).to_pylist() for name in ("file_sha256", "pixel_sha256"))
    assert files[0] == files[1] != files[2]
    assert pixels[0] == pixels[1] != pixels[2]
    assert None not in pixels
    split_dataset(folder, val=0.4, force=True)
    assert read_index(folder).table.column("pixel_sha256").to_pylist() == pixels

    # the same pixels in another file; the old hashes do not count for it
    picture = cv2.imread(str(folder / "images/x.png"), cv2.IMREAD_UNCHANGED)
    (folder / "images/x.png").unlink()
    cv2.imwrite(str(folder / "images/x.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    again = write_index(folder, hashes=Hashes.PIXELS, processes=1).table
    assert again.column("pixel_sha256").to_pylist() == pixels
    assert again.column("file_sha256").to_pylist()[1] != files[1]


def test_what_was_hashed_stays_when_the_rest_fails(folder, monkeypatch):
    def fails_at_the_second(work, batches):
        yield work(batches[0])
        raise ClusterError("the cluster is gone")

    monkeypatch.setattr("mammoscope.datasets.files.BATCH", 1)
    with pytest.raises(ClusterError, match="the cluster is gone"):
        write_index(folder, hashes=Hashes.FILES, spread=fails_at_the_second)
    kept = read_index(folder).table.column("file_sha256").to_pylist()
    assert [value is None for value in kept] == [False, True, True]


def test_pixels_that_cannot_be_read_have_no_hash(folder):
    path = folder / "images/x.png"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:60])
    table = write_index(folder, hashes=Hashes.PIXELS, processes=1).table
    assert [value is None for value in table.column("pixel_sha256").to_pylist()] == [False, True, False]


def test_an_old_index_is_not_believed(folder):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][0]["view"] = "CC"
    path.write_text(json.dumps(content))
    assert read_index(folder) is None
    assert open_index(folder, ["view"]).table.column("view").to_pylist()[0] == "CC"
    assert read_index(folder) is None  # only opened
    write_index(folder)
    assert read_index(folder).table.column("view").to_pylist()[0] == "CC"


def test_a_copied_folder_keeps_its_index(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    os.utime(tmp_path / "copy/annotations.json", (1, 1))
    assert read_index(tmp_path / "copy").table.num_rows == 3


def test_a_folder_without_an_index_loads_as_before(collection, tmp_path):
    import_coco(collection.annotations, collection.images, tmp_path / "out")
    before = load_dataset(tmp_path / "out")
    (tmp_path / "out" / INDEX).unlink()
    assert load_dataset(tmp_path / "out") == before
    assert read_index(tmp_path / "out") is None
    assert open_index(tmp_path / "out").table.num_rows == 6


def test_damage_is_said(folder, tmp_path):
    whole = (folder / INDEX).read_bytes()
    for content in (b"", whole[:50], b"PAR1" + b"\0" * 90):
        (folder / INDEX).write_bytes(content)
        with pytest.raises(DatasetError, match=r"images\.parquet cannot be read .*: remove it"):
            read_index(folder)
        write_index(folder)
        assert read_index(folder).table.num_rows == 3
    with pytest.raises(DatasetError, match="not a data set's folder"):
        read_index(tmp_path)


def test_locks_are_checked_without_the_coco_file(folder):
    split_dataset(folder, val=0.4, force=True)
    check_locks(read_index(folder))
    path = folder / "splits.json"
    lock = json.loads(path.read_text())
    path.write_text(json.dumps(lock | {"hash": "0"}))
    with pytest.raises(DatasetError, match=r"not those that splits\.json locked"):
        check_locks(read_index(folder))


def test_a_patient_in_two_splits_is_seen(collection, tmp_path):
    images = [
        ImportedImage(collection.images / f"0000{n}_LEFT_CC.png", 40, 50, "p", NOTHING, split=split)
        for n, split in ((1, "train"), (2, "val"))
    ]
    write_dataset(images, tmp_path / "leak", name="leak")
    with pytest.raises(DatasetError, match="one patient in two splits"):
        check_locks(read_index(tmp_path / "leak"))


@pytest.mark.parametrize(
    ("said", "density"),
    [("3", 3), (3, 3), (2.0, 2), ("C", 3), ("d", 4), ("DENSITY B", 2), ("BI-RADS A", 1), ("9", None), (None, None),
     ("several", None), ("", None)],
)  # fmt: skip
def test_densities(said, density):
    assert density_of(said) == density


def test_attributes_become_columns_of_one_kind():
    facts = [
        {"attributes": {"birads": "4", "age": "51", "mixed": "1", "view": "CC", "implant": True, "empty": " "}},
        {"attributes": {"birads": 5, "age": "51.5", "mixed": "a", "implant": False, "huge": "1e400"}},
        {},
    ]
    assert attribute_columns(facts) == {
        "age": [51.0, 51.5, None], "birads": [4, 5, None], "huge": [None, "1e400", None],
        "implant": [True, False, None], "mixed": ["1", "a", None],
    }  # fmt: skip


WITHOUT_PYARROW = """
import sys


sys.modules["pyarrow"] = None
from mammoscope.cli import main

main()
"""


@pytest.mark.slow
def test_without_pyarrow_a_folder_has_no_index_and_what_needs_one_says_so(folder, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_PYARROW, "dataset", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    before = read_index(folder)
    split = run("split", folder, "--val", 0.4, "--force")
    assert split.returncode == 0, split.stderr
    assert read_index(folder) is None  # the old one is not believed
    copied = run(
        "import", "coco", "--annotations", folder / "annotations.json", "--images", folder / "images", "--out", "copy"
    )
    assert copied.returncode == 0, copied.stderr
    assert not (tmp_path / "copy" / INDEX).exists()
    assert len(load_dataset(tmp_path / "copy")) == before.table.num_rows
    for needs in (["index", folder], ["show", folder], ["filter", folder, "--where", "rows > 1", "--out", "chosen"]):
        done = run(*needs)
        assert done.returncode == 2, done
        assert "pip install 'mammoscope[datasets]'" in done.stderr
        assert "Traceback" not in done.stderr
