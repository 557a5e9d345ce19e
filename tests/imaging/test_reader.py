"""The decoder process really dies, hangs and is replaced here."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammoscope.imaging import MammogramError, MammogramReader, read_mammogram


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "L_CC.png"
    flat_but_for_a_corner(6, 5, 100).save(path)
    return path


def flat_but_for_a_corner(rows, columns, value):
    pixels = np.full((rows, columns), value, np.uint8)
    pixels[-1, -1] = 0
    return Image.fromarray(pixels)


@pytest.fixture
def own(picture):
    """A reader that has its child, and the child's process id."""
    with MammogramReader(timeout=30) as reader:
        reader.read(picture)
        (pid,) = reader.process_ids
        yield reader, pid


def test_child_is_kept(own, picture):
    reader, pid = own
    for _ in range(3):
        assert reader.read(picture).pixels.max() == 25700
    assert reader.process_ids == (pid,)


def test_child_survives_a_refused_file(own, tmp_path):
    reader, pid = own
    (tmp_path / "empty.dcm").touch()
    with pytest.raises(MammogramError, match=r"empty\.dcm is empty: copy or send it again"):
        reader.read(tmp_path / "empty.dcm")
    assert reader.process_ids == (pid,)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_child_that_dies_at_work_costs_one_sentence_and_is_replaced(own, picture, how):
    reader, pid = own
    os.kill(pid, signal.SIGSTOP)  # so that it is surely still at work when it dies
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.read, picture)
        while not reading.running():
            time.sleep(0.001)
        os.kill(pid, how)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(MammogramError, match=rf"the decoder crashed on L_CC\.png \({how.name}\): .*send it again"):
            reading.result()
    assert reader.read(picture).pixels.shape == (6, 5)
    assert pid not in reader.process_ids


@pytest.mark.slow
def test_child_that_died_idle_is_replaced_without_a_word(own, picture):
    reader, pid = own
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert reader.read(picture).pixels.shape == (6, 5)


@pytest.mark.slow
def test_child_that_hangs_is_ended_and_replaced(picture):
    with MammogramReader(timeout=5) as reader:
        reader.read(picture)
        (pid,) = reader.process_ids
        reader._timeout = 0.2  # no file can be relied on to be slow, so the child is stopped
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(MammogramError, match=r"did not finish L_CC\.png within 0\.2 s .*send it again"):
            reader.read(picture)
        assert pid not in reader.process_ids
        reader._timeout = 30
        assert reader.read(picture).pixels.shape == (6, 5)


@pytest.mark.slow
def test_closing_ends_the_children(picture):
    with MammogramReader(workers=2) as reader:
        reader.read(picture)
        (pid,) = reader.process_ids
    assert reader.process_ids == ()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ValueError, match="closed"):
        reader.read(picture)


@pytest.mark.slow
def test_many_threads_share_two_children(tmp_path):
    for value in range(1, 21):
        flat_but_for_a_corner(50, 40, value).save(tmp_path / f"{value}.png")
    with MammogramReader(workers=2) as reader, ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda v: int(reader.read(tmp_path / f"{v}.png").pixels[0, 0]), range(1, 21)))
        assert 1 <= len(reader.process_ids) <= 2
    assert got == [value * 257 for value in range(1, 21)]


def _read_in_fork(reader, path, answers):
    answers.put((int(reader.read(path).pixels.max()), os.getpid()))


@pytest.mark.slow
def test_forked_process_gets_children_of_its_own(own, picture):
    reader, _ = own
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    process = fork.Process(target=_read_in_fork, args=(reader, picture, answers))
    process.start()
    assert answers.get(timeout=60) == (25700, process.pid)
    process.join()
    assert reader.read(picture).pixels.max() == 25700


@pytest.mark.slow
def test_shared_reader_in_a_script_without_main_guard(picture):
    script = f"from mammoscope.imaging import read_mammogram; print(read_mammogram({str(picture)!r}).pixels.max())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("25700\n", "")


def test_name_is_used_in_messages(tmp_path):
    (tmp_path / "Surname_Forename.dcm").write_bytes(b"no image at all")
    with pytest.raises(MammogramError, match=r"^1\.2\.3 is no image: give a DICOM file") as caught:
        read_mammogram(tmp_path / "Surname_Forename.dcm", name="1.2.3")
    assert "Surname" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "thing does not exist: check the path"),
        (lambda p: p.mkdir(), "thing is a folder: name the image files"),
        (os.mkfifo, "thing is no regular file: give"),
        (lambda p: p.touch(), "thing is empty: copy or send"),
        (lambda p: p.write_text("notes"), "thing is no image: give"),
    ],
)
def test_what_is_no_file_of_an_image(reader, tmp_path, make, sentence):
    make(tmp_path / "thing")
    with pytest.raises(MammogramError, match=sentence):
        reader.read(tmp_path / "thing")


def test_file_larger_than_any_mammogram_is_refused_unread(reader, tmp_path):
    with (tmp_path / "huge.dcm").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(MammogramError, match=r"huge\.dcm is larger than 1 GiB"):
        reader.read(tmp_path / "huge.dcm")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="the limits of a process are read from /proc")
def test_child_cannot_take_all_memory(own):
    # what a small file that unpacks to gigabytes runs into
    _, pid = own
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
    assert int(line.split()[3]) == 4 << 30


@pytest.mark.slow
def test_interrupted_read_does_not_leave_its_answer_to_the_next(own, picture, tmp_path):
    reader, pid = own
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        reader.read(picture)
    other = tmp_path / "other.png"
    flat_but_for_a_corner(2, 2, 7).save(other)
    assert reader.read(other).pixels.max() == 7 * 257


def test_python_that_cannot_import_the_package_is_said(monkeypatch, picture):
    monkeypatch.setattr(sys, "path", [])
    with MammogramReader() as reader, pytest.raises(MammogramError, match="the decoder process does not start: check"):
        reader.read(picture)


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"timeout": 0}])
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="not 0"):
        MammogramReader(**arguments)
