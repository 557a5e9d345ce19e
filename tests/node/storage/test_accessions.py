import stat
from pathlib import Path

import pytest

from mammoscope.errors import MammoscopeError
from mammoscope.node.storage.accessions import FILE, AccessionDigests


def test_the_same_number_has_the_same_digest_in_one_folder_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    digest = AccessionDigests(tmp_path / "a").digest("A-123 ")
    assert AccessionDigests(tmp_path / "a").digest("A-123") == digest  # another process, and DICOM's padding
    assert AccessionDigests(tmp_path / "b").digest("A-123") != digest
    assert digest is not None
    assert len(digest) == 64
    assert all(b"123" not in file.read_bytes() for file in (tmp_path / "a").iterdir())
    assert [file.name for file in (tmp_path / "a").iterdir()] == [FILE]
    assert stat.S_IMODE((tmp_path / "a" / FILE).stat().st_mode) == 0o600


def test_no_number_has_no_digest_and_needs_no_key(tmp_path: Path) -> None:
    digests = AccessionDigests(tmp_path)
    assert digests.digest(" ") is None
    assert not digests.has_key


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(MammoscopeError, match="put it back from a backup"):
        AccessionDigests(tmp_path).digest("1")
