"""`detect`, `dataset index` and `dataset audit` over a Ray cluster, while a node of it, or Ray in the command, dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from mammoscope.cli.detect import batches_of
from mammoscope.datasets import ImportedImage, open_index, write_dataset
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.phantom import screening_study

STUDIES = 5


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies whose files have the same names, and a file that is no mammogram."""
    folder = tmp_path_factory.mktemp("studies")
    for seed in range(STUDIES):
        screening_study(seed, masses=1, rows=200, columns=160).save(folder / f"study{seed}")
    (folder / "study1" / "broken.dcm").write_bytes((folder / "study1" / "R_CC.dcm").read_bytes()[:3000])
    return folder


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mammoscope", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def objects_in(out: Path) -> list[tuple[str, str, int]]:
    found = [dcmread(path) for path in out.glob("objects/*/*.dcm")]
    return sorted((str(data.StudyInstanceUID), str(data.Modality), int(data.get("Rows") or 0)) for data in found)


def end_ray_in(command: subprocess.Popen[str]) -> None:
    """As Ray itself does when a check of its core fails."""
    children = Path(f"/proc/{command.pid}/task").glob("*/children")
    (driver,) = [
        int(pid)
        for pid in " ".join(path.read_text() for path in children).split()
        if b"mammoscope.ray_driver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(driver, signal.SIGABRT)


@pytest.fixture(scope="module")
def read_here(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `detect` writes and says without Ray."""
    out = tmp_path_factory.mktemp("without-ray") / "here"
    command = start("detect", ".", "--out", out, "--threshold", 0.05, "--threads", 1, cwd=studies)
    _, told = command.communicate(timeout=300)
    assert command.returncode == 1  # broken.dcm
    return out, told


@pytest.mark.parametrize("dies", ["a node", "Ray in the command"])
def test_detect_is_the_same_whatever_dies(
    dies: str, read_here: tuple[Path, str], studies: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    ray_cluster = request.getfixturevalue("ray_cluster" if dies == "a node" else "lasting_ray_cluster")
    here, told_here = read_here
    out = tmp_path / "there"
    there = start("detect", ".", "--out", out, "--threshold", 0.05, "--ray", ray_cluster.address, cwd=studies)
    end = time.monotonic() + 240
    while not list(out.glob("pictures/*.png")):
        assert there.poll() is None, there.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    if dies == "a node":
        ray_cluster.kill_second()
    else:
        end_ray_in(there)
    _, told_there = there.communicate(timeout=300)

    assert there.returncode == 1  # broken.dcm
    assert told_there.endswith(told_here.lstrip())
    assert ("died (SIGABRT)" in told_there) == (dies == "Ray in the command")
    assert "Traceback" not in told_there
    readings = [json.loads((folder / "readings.json").read_text()) for folder in (here, out)]
    assert readings[1] == readings[0]
    assert len(readings[0]) == 4 * STUDIES + 1
    pictures = [{path.name: path.read_bytes() for path in (folder / "pictures").iterdir()} for folder in (here, out)]
    assert pictures[1] == pictures[0]
    assert objects_in(out) == objects_in(here)
    assert len({uid for uid, _, _ in objects_in(out)}) == STUDIES


def test_pixel_hashes_and_what_the_audit_measures_are_the_same(lasting_ray_cluster, studies: Path, tmp_path: Path):
    folder = tmp_path / "set"
    write_dataset(
        [
            ImportedImage(
                path,
                200,
                160,
                path.parent.name,
                ImageMarks((), Silence.NEGATIVE),
                file_name=f"{path.parent.name}/{path.name}",
            )
            for path in sorted(studies.glob("*/*_*.dcm"))
        ],
        folder,
        name="set",
    )
    columns = ["file_name", "file_sha256", "pixel_sha256"]

    def hashed(*more: str) -> dict[str, list[str]]:
        (folder / "images.parquet").unlink()  # which would keep the hashes
        done = start("dataset", "index", "set", "--hashes", "pixels", *more, cwd=tmp_path)
        assert done.wait(300) == 0, done.communicate()
        return open_index(folder, columns).table.to_pydict()

    there = hashed("--ray", lasting_ray_cluster.address)
    assert None not in there["pixel_sha256"]
    assert there == hashed()

    def measured(*more: str) -> list[str]:
        done = start("dataset", "audit", "set", *more, cwd=tmp_path)
        told, _ = done.communicate(timeout=300)
        assert told.endswith("notes.\n")
        return sorted(line for line in (folder / ".audit" / "measures.jsonl").read_text().splitlines() if line)

    assert measured("--ray", lasting_ray_cluster.address) == measured()
    assert len(measured()) == 4 * STUDIES


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("127.0.0.1:1", "there is no Ray cluster at 127.0.0.1:1"), ("somewhere", "--ray somewhere: write HOST:PORT")],
)
def test_no_cluster_is_one_sentence(address: str, sentence: str, studies: Path, tmp_path: Path):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'mammoscope[ray]')")
    done = start("detect", studies, "--out", tmp_path / "out", "--ray", address, cwd=tmp_path)
    _, told = done.communicate(timeout=300)
    assert done.returncode == 2
    assert sentence in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_studies_stay_whole_in_batches():
    studies = [[Path(f"{n}-{k}") for k in range(size)] for n, size in enumerate((1, 4, 2, 9, 1))]
    assert [[len(study) for study in batch] for batch in batches_of(studies, 5)] == [[1, 4], [2], [9], [1]]
    assert batches_of([]) == []
