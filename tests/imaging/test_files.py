import os

import numpy as np
import pytest
from PIL import Image

from mammoscope.imaging import MammogramError, find_files
from mammoscope.imaging.files import FileKind, sniff


@pytest.fixture
def picture():
    import io

    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", FileKind.EMPTY),
        (bytes(128) + b"DICM", FileKind.DICOM),
        (b"\x89PNG\r\n\x1a\n" + bytes(128) + b"DICM", FileKind.PICTURE),
        (b"II*\0".ljust(128, b"\0") + b"DICM", FileKind.DICOM),  # a TIFF in the preamble: dual-personality file
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", FileKind.DICOM),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", FileKind.DICOM),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", FileKind.DICOM),
        (b"\x02\0\0\0UL\x04\0\xb6\0\0\0\x02\0\x01\0", FileKind.DICOM),
        (b"II*\0\x08\0\0\0", FileKind.PICTURE),
        (b"\xff\xd8\xff\xe0", FileKind.PICTURE),
        (b"P5\n4 4\n255\n", FileKind.PICTURE),
        (b"GIF89a", FileKind.OTHER_PICTURE),
        (b"Patient notes", FileKind.OTHER),
        (b'{"images": []}', FileKind.OTHER),
        (b"PK\x03\x04", FileKind.OTHER),
        (b"\x08\0\x05\0", FileKind.OTHER),
    ],
)
def test_sniff(start, kind):
    assert sniff(start) is kind


def test_folders_are_searched_in_natural_order(tmp_path, picture):
    names = ["b/image10.png", "b/image2.png", "a.png", "B.png", "b/image1.png", "case 9/x", "case 10/x"]
    for name in names:
        write(tmp_path / name, picture)
    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path])]
    assert found == [
        "a.png",
        "b/image1.png",
        "b/image2.png",
        "b/image10.png",
        "B.png",
        "case 9/x",
        "case 10/x",
    ]


def test_what_is_no_image_is_left_out_and_what_looks_like_one_is_kept(tmp_path, picture):
    for name in ["notes.txt", "truth.json", "boxes.csv"]:
        write(tmp_path / name, b"text and nothing else")
    write(tmp_path / ".hidden.png", picture)
    write(tmp_path / ".git" / "x.png", picture)
    write(tmp_path / "DICOMDIR", bytes(128) + b"DICM")
    write(tmp_path / "nothing")
    kept = [
        write(tmp_path / "damaged.dcm", b"garbage"),
        write(tmp_path / "empty.png"),
        write(tmp_path / "IM0001", bytes(128) + b"DICM"),
        write(tmp_path / "scan.gif", b"GIF89a"),
        write(tmp_path / "table.txt", picture),
    ]
    assert find_files([tmp_path]) == kept


def test_named_files_are_always_taken_and_only_once(tmp_path, picture):
    text, image = write(tmp_path / "z.txt", b"text"), write(tmp_path / "a.png", picture)
    assert find_files([text, str(tmp_path), image]) == [text, image]


def test_missing_path_is_refused(tmp_path):
    with pytest.raises(MammogramError, match=r"nowhere does not exist: check the path"):
        find_files([tmp_path / "nowhere"])


def test_linked_folder_is_followed_but_not_for_ever(tmp_path, picture):
    image = write(tmp_path / "real" / "a.png", picture)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "study")
    assert find_files([tmp_path / "study"]) == [tmp_path / "study" / "link" / image.name]


def test_pipe_in_a_folder_does_not_block(tmp_path, picture):
    image = write(tmp_path / "a.png", picture)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.dcm")
    assert find_files([tmp_path]) == [image]
