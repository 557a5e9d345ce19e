from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError

WEB = ("--from", "dicomweb", "http://127.0.0.1:9/dicom-web")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (WEB, "say which studies"),
        ((*WEB, "--where", "Modality"), "write it as KEYWORD=VALUE"),
        ((*WEB, "--where", "Modalitys=MG"), "'Modalitys' is no keyword of DICOM"),
        ((*WEB, "--since", "2026-02-01", "--until", "2026-01-01"), "exchange them"),
        ((*WEB, "--since", "2026-02-01"), "cannot be reached"),
        (("--from", "ftp", "x", "--where", "StudyID=1"), "speaks dicomweb or dimse"),
        (("--from", "dicomweb", "pacs/dicom-web", "--where", "StudyID=1"), "that is no address"),
        (("--from", "dimse", "PACS@host", "--where", "StudyID=1"), "write AET@HOST:PORT"),
        (("--from", "dimse", "PACS@host:99999", "--where", "StudyID=1"), "write AET@HOST:PORT"),
        ((*WEB, "--accessions", "missing.txt"), "cannot be read"),
    ],
)
def test_nonsense_is_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path):
    done = CliRunner().invoke(app, ["dataset", "pull", *arguments, "--out", str(tmp_path / "set")])
    assert isinstance(done.exception, MammoscopeError)
    assert sentence in str(done.exception)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"A1\nA2*\n", "line 2 is no accession number"),
        (b"A1\n\n0123456789ABCDEFG\n", "line 3 is no accession number"),
        (b"accession,patient\nA1,P1\n", "line 1 is no accession number"),
        (b" \n\n", "holds no accession numbers"),
        ("Ä1\n".encode("latin-1"), "is no text in UTF-8"),
    ],
)
def test_a_list_of_something_else_is_one_sentence(content: bytes, sentence: str, tmp_path: Path):
    numbers = tmp_path / "numbers.txt"
    numbers.write_bytes(content)
    done = CliRunner().invoke(
        app, ["dataset", "pull", *WEB, "--accessions", str(numbers), "--out", str(tmp_path / "set")]
    )
    assert isinstance(done.exception, MammoscopeError)
    assert sentence in str(done.exception)
