"""`mammoscope dataset`, as a user types it."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import DatasetError


@pytest.fixture
def collection(tmp_path):
    (tmp_path / "pictures").mkdir()
    names = [f"{patient:05}_LEFT_{view}.png" for patient in range(1, 7) for view in ("CC", "MLO")]
    for name in names:
        cv2.imwrite(str(tmp_path / "pictures" / name), np.arange(2000, dtype=np.uint16).reshape(40, 50))
    coco = {
        "categories": [{"id": 1, "name": "Mass"}],
        "images": [{"id": n, "file_name": name, "height": 40, "width": 50} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [40, 30, 20 if n == 1 else 10, 10]} for n in range(1, 12)
        ],
    }
    (tmp_path / "set.json").write_text(json.dumps(coco))
    rows = [f"{name},,," if n == 0 else f"{name},1000,500,0.5" for n, name in enumerate(names)]
    head = "file_name,est_native_rows,est_native_cols,est_aspect_cols_over_rows"
    (tmp_path / "sizes.csv").write_text("\n".join([head, *rows]) + "\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)], catch_exceptions=True)


def test_import_split_show(collection):
    out = collection / "out"
    source = ["--annotations", collection / "set.json", "--images", collection / "pictures", "--out", out]
    imported = run("import", "coco", *source, "--native-sizes", collection / "sizes.csv")
    assert imported.exit_code == 0, imported.output
    assert "12 images of 6 patients with 11 boxes; 1 images have no box." in imported.output
    assert "1 of them have no native size: they got the median aspect of the others, 0.5000" in imported.output
    assert "1 boxes reached over the image's edge" in imported.output
    split = run("split", out, "--val", "0.34", "--seed", "1")
    assert split.exit_code == 0, split.output
    assert "No patient is in two splits" in split.output
    shown = run("show", out)
    assert shown.exit_code == 0
    for fact in ("Mass 11", "CC 6, MLO 6", "train 8, val 4", "100 to 100"):
        assert fact in shown.output


def test_an_import_tells_a_program_what_it_tells_a_person(collection):
    source = ["--annotations", collection / "set.json", "--images", collection / "pictures", "--json", "--out"]
    told = json.loads(run("import", "coco", *source, collection / "out").output)
    assert (told["images"], told["patients"], told["boxes"], told["images_without_boxes"]) == (12, 6, 11, 1)
    assert (told["clipped"], told["marks"]["taken"], told["marks"]["images"]["negative"]) == (1, 11, 1)
    (collection / "boxes.csv").write_text("file_name,label,x,y,width,height\n00001_LEFT_CC.png,Mass,1,2,3,4\n")
    source[1] = collection / "boxes.csv"
    told = json.loads(run("import", "csv", *source, collection / "again").output)
    assert (told["boxes"], told["left_out"], told["notes"]) == (1, 11, [])


def test_errors_reach_the_user(collection):
    result = run("show", collection)
    assert isinstance(result.exception, DatasetError)
    result = run("split", collection / "nothing")
    assert isinstance(result.exception, DatasetError)


def test_folds_are_divided_beside_the_split(collection):
    out = collection / "out"
    source = ["--annotations", collection / "set.json", "--images", collection / "pictures", "--out", out]
    run("import", "coco", *source, "--native-sizes", collection / "sizes.csv")
    run("split", out, "--val", 0.2, "--test", 0.34)
    done = run("split", out, "--folds", 2)

    assert done.exit_code == 0, done.output
    assert "No patient is in two folds. Locked as" in done.output
    shown = " ".join(run("show", out).output.split())
    assert "1 4, 2 4, none 4" in shown  # two of six patients are for the test
    both = run("split", out, "--folds", 2, "--val", 0.2)
    assert "--folds does not go with --split, --val and --test" in str(both.exception)


@pytest.fixture
def folder(collection):
    out = collection / "out"
    run("import", "coco", "--annotations", collection / "set.json", "--images", collection / "pictures", "--out", out)
    return out


def told(*arguments, code=0):
    done = run(*arguments)
    assert done.exit_code == code, (done.output, done.exception)
    return " ".join(done.output.split())


def test_exact_numbers_say_what_they_miss(folder):
    said = told("split", folder, "--split", "6/3/2")
    assert "1 images " in said
    assert "than asked for: patients stay whole." in said
    assert "are in no split. No patient is in two splits." in said
    assert "split" in str(run("split", folder, "--split", "6/3/2", "--val", "0.1").exception)
    assert "there are mass, pathology" in str(run("split", folder, "--split", "6/6", "--stratify", "age").exception)
    assert "--stratify goes with" in str(run("split", folder, "--stratify", "mass").exception)


def test_new_data_sets_of_old_ones(folder, collection):
    said = told("filter", folder, "--where", "view == 'MLO' and n_boxes > 0", "--out", collection / "mlo")
    assert "6 images of 6 patients with 6 boxes written" in said
    assert "5 images instead" not in told("sample", folder, "--images", 4, "--out", collection / "four")
    assert "images instead of 5: patients stay whole." in told(
        "sample", folder, "--images", 5, "--out", collection / "five"
    )
    told("remap", folder, "--map", "Mass=lesion", "--out", collection / "lesions")
    told("merge", collection / "mlo", collection / "lesions", "--out", collection / "both")
    assert "Mass 6, lesion 11" in told("show", collection / "both")
    assert "write OLD=NEW" in str(run("remap", folder, "--map", "Mass", "--out", collection / "x").exception)
    assert "nothing to do" in str(run("remap", folder, "--out", collection / "x").exception)
    both = run("filter", folder, "--where", "id > 1", "--out", collection / "x", "--copy", "--symlink")
    assert "do not go together" in str(both.exception)


def test_out_and_in_again(folder, collection):
    assert "12 images with 11 boxes written" in told("export", folder, "--format", "voc", "--out", collection / "voc")
    assert "choose another --out." in str(run("export", folder, "--format", "voc", "--out", folder).exception)
    said = told(
        "import", "voc", "--annotations", collection / "voc/Annotations", "--images", collection / "voc/JPEGImages",
        "--table", collection / "voc/images.csv", "--out", collection / "again",
    )  # fmt: skip
    assert "12 images of 6 patients with 11 boxes; 1 images have no box." in said
    assert "there are coco, csv" in str(run("export", folder, "--format", "x", "--out", collection / "x").exception)


def test_png_for_programs_that_read_no_dicom(folder, collection):
    told("export", folder, "--format", "yolo", "--png", "--out", collection / "png")
    picture = cv2.imread(str(collection / "png/images/00001_LEFT_CC.png"), cv2.IMREAD_UNCHANGED)
    assert (picture.shape, picture.dtype) == ((40, 50), np.uint8)


def test_reviews(folder):
    name = "00001_LEFT_CC.png"
    assert "1 images are validated by dr a." in told(
        "review", "set", folder, "--image", name, "--state", "validated", "--by", "dr a", "--note", "sure"
    )
    assert "6 images are disputed" in told(
        "review", "set", folder, "--where", "view == 'MLO'", "--state", "disputed", "--by", "dr b"
    )
    said = told("review", "show", folder)
    assert "annotated │ 5" in said
    assert "disputed │ 6" in said
    assert "validated │ 1" in said
    assert "is validated." in told("review", "show", folder, "--image", name)
    assert "dr a: validated (sure)" in told("review", "show", folder, "--image", name)
    for more, wrong in (
        (["--state", "fine", "--image", name], "there are unannotated, annotated"),
        (["--state", "validated"], "say which images"),
        (["--state", "validated", "--where", "id < 0"], "no image of"),
    ):
        assert wrong in str(run("review", "set", folder, "--by", "dr a", *more).exception)


def test_the_index_can_be_written_for_an_old_folder(folder):
    (folder / "images.parquet").unlink()
    assert "12 images" in told("index", folder, "--hashes", "pixels", "--processes", 1)
    assert (folder / "images.parquet").is_file()
    assert "there are none, files, pixels" in str(run("index", folder, "--hashes", "md5").exception)
    picture = folder / "images/00001_LEFT_CC.png"
    content = picture.read_bytes()
    picture.unlink()
    picture.write_bytes(content[:50])
    assert "The pixels of 1 images cannot be read." in told("index", folder, "--hashes", "pixels", code=1)


def test_show_tells_a_changed_split(folder):
    told("split", folder, "--val", "0.34")
    path = folder / "annotations.json"
    path.write_text(path.read_text().replace('"split": "val"', '"split": "train"', 2))
    assert "splits.json locked" in str(run("show", folder).exception)


def test_tables_are_printed_as_json_too(folder):
    split = json.loads(told("split", folder, "--split", "6/3/2", "--json"))
    assert sum(split["images"].values()) + split["left_over"] == 12
    assert set(split["missed"]) == {"train", "val", "test"}
    shown = json.loads(told("show", folder, "--json"))
    assert (shown["images"], shown["boxes"], shown["labels"], shown["view"]) == (
        12,
        11,
        {"Mass": 11},
        {"CC": 6, "MLO": 6},
    )
    assert {name: count for name, count in shown["split"].items() if name != "not split"} == split["images"]
    assert shown["box side"]["least"] <= shown["box side"]["median"] <= shown["box side"]["most"]
    name = next((folder / "images").iterdir()).name
    told("review", "set", folder, "--image", name, "--state", "validated", "--by", "dr a")
    assert json.loads(told("review", "show", folder, "--json"))["validated"] == 1
    history = json.loads(told("review", "show", folder, "--image", name, "--json"))
    assert (history["state"], history["history"][0]["by"]) == ("validated", "dr a")
    assert set(json.loads(told("split", folder, "--folds", "2", "--force", "--json"))["images"]) == {"1", "2"}


def test_coco_without_words_of_its_own_gets_licence_and_citation(collection):
    source = [
        "--annotations",
        collection / "set.json",
        "--images",
        collection / "pictures",
        "--out",
        collection / "out",
    ]
    told("import", "coco", *source, "--name", "Mine", "--licence", "CC BY 4.0", "--citation", "Us 2026")
    content = json.loads((collection / "out/annotations.json").read_text())
    assert (content["info"]["licence"], content["info"]["description"]) == ("CC BY 4.0", "Mine")
    assert content["licenses"] == [{"id": 1, "name": "CC BY 4.0"}]
    told("card", collection / "out", "--out", collection / "card.md")
    card = (collection / "card.md").read_text()
    assert "CC BY 4.0" in card
    assert "Us 2026" in card
