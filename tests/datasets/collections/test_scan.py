import os
import zipfile
from pathlib import Path

import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.collections.scan import Inventory


def test_files_are_resolved_by_the_end_of_their_path(tmp_path):
    for name in ("a/x/1.dcm", "b/x/1.dcm", "b/X/2.DCM"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    inventory = Inventory.of(tmp_path)
    assert inventory.resolve("/mnt/data/b/x/1.dcm") == tmp_path / "b/x/1.dcm"
    assert inventory.resolve("D:\\data\\a\\x\\1.dcm") == tmp_path / "a/x/1.dcm"
    assert inventory.resolve("b/x/2.dcm") == tmp_path / "b/X/2.DCM"
    assert inventory.resolve("b/x/3.dcm") is None
    assert inventory.resolve("") is None


def test_dicom_files_are_told_by_content_and_hidden_files_passed_over(lay, grey):
    laid = lay("x")
    laid.dicom("no suffix", grey(4, 4))
    laid.dicom(".hidden.dcm", grey(4, 4))
    laid.dicom("__MACOSX/1.dcm", grey(4, 4))
    laid.text("LICENSE", "words")
    assert [path.name for path in Inventory.of(laid.folder).dicom] == ["no suffix"]


def test_a_link_back_up_does_not_go_round(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.csv").write_text("x")
    (tmp_path / "deep/up").symlink_to(tmp_path)
    assert len(Inventory.of(tmp_path).files) == 1


def test_what_is_no_folder_of_files_is_said(tmp_path):
    archive = tmp_path / "INbreast.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "b")
    other = tmp_path / "a.txt"
    other.write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "archives").mkdir()
    archive.rename(tmp_path / "archives/one.zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "b")
    for path, said in (
        (archive, "is an archive: unpack it and name the folder of the collection"),
        (other, "is a file: name the folder of the collection"),
        (tmp_path / "empty", "holds no files"),
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "archives", "holds archives only, such as one.zip: unpack them first"),
    ):
        with pytest.raises(DatasetError, match=said):
            Inventory.of(path)


def test_a_link_that_leads_nowhere_and_a_pipe_hold_nobody_up(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    inventory = Inventory.of(tmp_path)
    assert [path.name for path in inventory.files] == ["gone.dcm", "notes.txt"]
    assert [path.name for path in inventory.dicom] == ["gone.dcm"]  # whoever reads it says why it cannot be read
