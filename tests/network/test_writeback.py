from pathlib import Path

import pytest

from mammoscope.network.acceptor import begin_to_write


def test_a_file_stays_as_it_was_written(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40000
    with (tmp_path / "file").open("wb") as file:
        file.write(content)
        file.flush()
        begin_to_write(file.fileno(), 0, len(content) // 2)
        begin_to_write(file.fileno(), len(content) // 2, len(content))
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize("descriptor", [-1, 9999])
def test_a_hint_about_no_file_is_no_error(descriptor: int) -> None:
    begin_to_write(descriptor, 0, 1)
