"""The key file: the same patient the same pseudonym, over runs; never beside the images."""

import json
import stat
from pathlib import Path

import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.deidentification import KeyFile


def test_the_same_patient_has_the_same_pseudonym_over_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    with KeyFile(path) as keys:
        first, uid, fingerprint = keys.pseudonym("4711", "A"), keys.uid("1.2.3"), keys.fingerprint
        assert keys.pseudonym("4711", "A") == first
    with KeyFile(path) as keys:
        assert keys.pseudonym("4711", "A") == first
        assert keys.uid("1.2.3") == uid
        assert keys.fingerprint == fingerprint
    assert len(path.read_text().splitlines()) == 2
    assert json.loads(path.read_text().splitlines()[1]) == {
        "pseudonym": first.name, "patient_id": "4711", "issuer": "A", "days_shifted": first.days,
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_patients_of_two_hospitals_with_one_number_are_two(tmp_path: Path) -> None:
    with KeyFile(tmp_path / "keys.jsonl") as keys:
        names = {keys.pseudonym(*who).name for who in (("1", "A"), ("1", "B"), ("1A", ""), ("", "1A"))}
    assert len(names) == 4
    assert all(len(name) == 13 and name.startswith("P") and name.isalnum() for name in names)


def test_another_secret_gives_other_names(tmp_path: Path) -> None:
    with KeyFile(tmp_path / "a") as one, KeyFile(tmp_path / "b") as other:
        assert one.pseudonym("1", "") != other.pseudonym("1", "")
        assert one.uid("1.2.3") != other.uid("1.2.3")
        assert one.uid("1.2.3") != one.uid("1.2.4")


def test_a_uid_is_a_valid_one_made_of_a_uuid(tmp_path: Path) -> None:
    with KeyFile(tmp_path / "keys.jsonl") as keys:
        uid = keys.uid("1.2.3")
    assert uid.startswith("2.25.")
    assert len(uid) <= 44
    assert int(uid[5:]) >> 76 & 0xF == 5  # the version of the UUID (RFC 9562 4.2)


def test_it_does_not_lie_with_the_images(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DatasetError, match="keep it apart from the images"):
        KeyFile(out / "keys.jsonl", apart_from=[out])
    (out / "annotations.json").write_text("{}")
    (out / "below").mkdir()
    with pytest.raises(DatasetError, match="inside the data set"):
        KeyFile(out / "below" / "keys.jsonl")
    link = tmp_path / "link"
    link.symlink_to(out)
    with pytest.raises(DatasetError, match="keep it apart"):
        KeyFile(link / "keys.jsonl", apart_from=[out])
    assert not list(out.rglob("keys*"))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    KeyFile(path).close()
    path.chmod(0o640)
    with pytest.raises(DatasetError, match=r"0640.*chmod 600"):
        KeyFile(path)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with KeyFile(tmp_path / "keys.jsonl"), pytest.raises(DatasetError, match="in use by another run"):
        KeyFile(tmp_path / "keys.jsonl")


def test_a_line_cut_by_a_crash_is_dropped_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    with KeyFile(path) as keys:
        first, second = keys.pseudonym("1", ""), keys.pseudonym("2", "")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with KeyFile(path) as keys:
        assert keys.pseudonym("1", "") == first
        assert keys.pseudonym("2", "") == second
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"nonsense", b"nonsense\n", b"[]\n", b'{"mammoscope_keys": 9, "secret": "00"}\n'])
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(DatasetError, match="is no key file"):
        KeyFile(path)
    assert path.read_bytes() == content


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    KeyFile(path).close()
    path.write_bytes(path.read_bytes() + b'{"pseudonym": "P"}\n')
    with pytest.raises(DatasetError, match=r"line 2 .* is damaged"):
        KeyFile(path)
