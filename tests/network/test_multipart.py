from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mammoscope.network.errors import MultipartError, ObjectRefusedError
from mammoscope.network.multipart import PartFiles, boundary_of


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "abc"),
        ('Multipart/Related; boundary="a b\'c"; type=application/dicom', "a b'c"),
        ("multipart/related; boundary=abc", "abc"),
        ('multipart/related; type="application/dicom+json"; boundary=abc', None),
        ('multipart/related; type="application/dicom"', None),
        (f"multipart/related; boundary={'x' * 71}", None),
        ("application/dicom", None),
        ("", None),
    ],
)
def test_the_boundary_of_a_body_of_objects(content_type: str, boundary: str | None) -> None:
    assert boundary_of(content_type) == boundary


def files(folder: Path, largest: int = 1000, refuse: ObjectRefusedError | None = None) -> PartFiles:
    def back_pressure() -> None:
        if refuse is not None:
            raise refuse

    return PartFiles("abc", folder, largest, back_pressure)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n--ab", b"--abc", b"\r\n", b"\r\n--"]), min_size=1),
    step=st.integers(1, 40),
)
def test_parts_are_the_same_however_the_body_is_cut(tmp_path: Path, parts: list[bytes], step: int) -> None:
    parts = [part for part in parts if b"\r\n--abc" not in part] or [b""]
    head = b"--abc\r\nContent-Type: application/dicom\r\nContent-Location: x\r\n\r\n"
    body = b"".join(head + part + b"\r\n" for part in parts) + b"--abc--"
    split = files(tmp_path)
    arrived = []
    for start in range(0, len(body), step):
        for part in split.feed(body[start : start + step]):
            arrived.append((part.content_type, part.path.read_bytes()))
            part.discard()
    split.finish()
    split.close()
    assert arrived == [("application/dicom", part) for part in parts]
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_too_large_or_put_off_leaves_nothing(tmp_path: Path) -> None:
    body = b"--abc\r\n\r\n" + bytes(2000) + b"\r\n--abc--"
    for split, status in (
        (files(tmp_path), 0xC000),
        (files(tmp_path, 5000, ObjectRefusedError("full", 0xA700)), 0xA700),
    ):
        [part] = split.feed(body)
        assert part.refusal is not None
        assert part.refusal.status == status
        assert part.path.stat().st_size == 0
        part.discard()


def test_half_a_body_is_told_and_deleted(tmp_path: Path) -> None:
    split = files(tmp_path)
    assert split.feed(b"--abc\r\n\r\nhalf") == []
    with pytest.raises(MultipartError, match="ends before its last boundary"):
        split.finish()
    split.close()
    assert list(tmp_path.iterdir()) == []
