"""The fuzzing of `benchmarks/fuzz.py`, small."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGExtended12Bit

from mammoscope.imaging import MammogramError, MammogramReader
from mammoscope.network.sop_classes import TRANSFER_SYNTAXES


@pytest.fixture
def fuzz(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("fuzz")


def test_each_mutated_object_is_answered_and_the_node_lives(fuzz: ModuleType, tmp_path: Path) -> None:
    outcome = fuzz.run(tmp_path, 104, seed=3, still_seconds=300.0)
    assert outcome.sent == 104
    assert len(outcome.statuses) == 13
    assert outcome.without_an_answer == 0
    assert outcome.exit_code == 0
    assert len(outcome.stored & outcome.reported) > 13  # most of the 26 studies
    assert outcome.forgotten == set()
    assert outcome.leaks == []


def test_it_starts_from_valid_objects_of_every_transfer_syntax_that_the_node_accepts(
    fuzz: ModuleType, tmp_path: Path
) -> None:
    encodings = fuzz.Encodings(fuzz.SmallMammograms(tmp_path, seed=3), tmp_path)
    assert set(encodings.of) == set(TRANSFER_SYNTAXES)
    with MammogramReader() as reader:
        for syntax, template in encodings.of.items():
            file = tmp_path / "valid.dcm"
            fuzz.named(template, 3, 0, 0).save_as(file, enforce_file_format=True)
            assert dcmread(file).file_meta.TransferSyntaxUID == syntax
            if syntax == JPEGExtended12Bit:  # no free decoder for 12 bits
                with pytest.raises(MammogramError):
                    reader.read(file)
                continue
            pixels = reader.read(file).pixels
            assert pixels[50, 40] == pixels.max(), syntax.name
            assert pixels[100, 80] < pixels.max() // 2, syntax.name


def test_an_edit_is_written_as_it_is(fuzz: ModuleType) -> None:
    name = b"\x10\x00\x10\x00PN\x04\x00A^B "
    number = b"\x10\x00\x20\x00LO\x02\x001 "
    content = fuzz.edited(name + number, ExplicitVRLittleEndian, [("PatientID", b"\xff\xfe?"), ("PatientName", None)])
    assert content == b"\x10\x00\x20\x00LO\x04\x00\xff\xfe? "
    added = fuzz.edited(b"", ExplicitVRBigEndian, [("PixelData", b"12")])
    assert added == b"\x7f\xe0\x00\x10OW\x00\x00\x00\x00\x00\x0212"


def test_a_leak_is_seen(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"someone wrote {fuzz.PATIENT_WORD}^1")
    (tmp_path / "wide").write_bytes(f"{fuzz.PATIENT_WORD}".encode("utf-16-le"))
    (tmp_path / "clean").write_text("1.2.3")
    (tmp_path / "object.dcm").write_bytes(b"\0" * 128 + b"DICM" + fuzz.PATIENT_WORD.encode())
    assert fuzz.leaks(tmp_path) == ["log", "wide"]
