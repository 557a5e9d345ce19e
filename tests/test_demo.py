"""What the demo judges by, and the demo itself from end to end."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from mammoscope.demo import Match, is_complete, is_hit, marks, match, node_settings
from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import read_mammogram
from mammoscope.phantom import screening_study
from mammoscope.results import ReadMammogram, result_objects
from mammoscope.settings import load_node_settings

MASS = Box(100, 100, 200, 200)


@pytest.mark.parametrize(
    ("found", "hit"),
    [
        (MASS, True),
        # Centre (140, 140) in the mass, though only 1600 of 10000 square pixels are shared.
        (Box(120, 120, 160, 160), True),
        # Centre (205, 150) outside; shared 45 x 100 = 4500, union 10000 + 10000 - 4500 = 15500: 0.29.
        (Box(155, 100, 255, 200), True),
        # Shared 30 x 100 = 3000, union 17000: 0.18.
        (Box(170, 100, 270, 200), False),
        (Box(300, 300, 400, 400), False),
    ],
)
def test_a_box_is_on_a_mass_by_its_centre_or_by_what_they_share(found: Box, hit: bool):
    assert is_hit(MASS, found) is hit


def test_each_mass_takes_one_finding_and_the_rest_are_on_no_mass():
    best, second = Finding(MASS, 0.9), Finding(Box(110, 110, 190, 190), 0.8)
    missed = Box(500, 500, 560, 560)

    assert match([missed, MASS], [second, best]) == [Match(missed, None), Match(MASS, best), Match(None, second)]
    assert match([], []) == []


def test_the_nodes_settings_are_accepted(tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text(node_settings(node_port=11113, pacs_port=11114))

    settings = load_node_settings(config)

    assert settings.node.port == 11113
    assert [destination.port for destination in settings.destinations] == [11114]


def test_the_marks_are_those_that_the_report_was_made_of(tmp_path: Path):
    algorithm = Algorithm("test", "1")
    read, expected = [], {}
    findings = [Finding(Box(100.5, 50, 140, 90.25), 0.875), Finding(Box(20, 30, 60, 80), 0.5)]
    for number, path in enumerate(screening_study(3, rows=400, columns=300).save(tmp_path)):
        mammogram = read_mammogram(path)
        mine = tuple(findings) if number == 2 else ()
        status = ReadingStatus.FOUND if mine else ReadingStatus.NOTHING_FOUND
        reading = Reading(
            mammogram.name, status, mine, rows=mammogram.rows, columns=mammogram.columns, algorithm=algorithm
        )
        read.append(ReadMammogram(mammogram, reading))
        expected[str(mammogram.header.SOPInstanceUID)] = list(mine)
    objects = result_objects(read, algorithm)
    report = next(dataset for dataset in objects if dataset.Modality == "SR")

    assert marks(report) == expected
    assert is_complete(objects)
    assert not is_complete([dataset for dataset in objects if dataset.Modality != "PR"])
    assert not is_complete([dataset for dataset in objects if dataset.Modality != "SR"])


def test_the_demo_goes_the_whole_way_and_shows_the_study_until_it_is_interrupted(tmp_path: Path):
    out = tmp_path / "shown"
    command = [
        sys.executable,
        "-m",
        "mammoscope",
        "demo",
        "--out",
        str(out),
        "--seed",
        "2",
        "--masses",
        "1",
        "--review",
    ]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if "The reading room is at " in line:
                    break
            said = "".join(lines)
            url = re.search(r"The reading room is at (\S+) until Ctrl-C", said)
            assert url, said
            with httpx.Client(base_url=url[1], follow_redirects=True, timeout=60) as reader:
                assert "PHANTOM-2" in reader.post("/login", data={"name": "Anna", "to": "/worklist"}).text
        finally:
            demo.send_signal(signal.SIGINT)
        said += demo.communicate(timeout=60)[0]

    assert demo.returncode == 0, said
    assert "of 2 views of a mass found" in said
    assert "Closed." in said
    assert {"R-CC.png", "L-CC.png", "R-MLO.png", "L-MLO.png", "study.png"} == {
        p.name for p in (out / "pictures").iterdir()
    }
    modalities = [dcmread(path).Modality for path in (out / "objects").iterdir()]
    assert modalities.count("SR") == 2  # Mammography CAD SR and TID 1500
    sent = {dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in (out / "study").iterdir()}
    assert {dcmread(path).StudyInstanceUID for path in (out / "objects").iterdir()} == sent


def test_the_demo_never_replaces_what_it_did_not_make(tmp_path: Path):
    mine = tmp_path / "study" / "mine.dcm"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")

    done = subprocess.run(
        [sys.executable, "-m", "mammoscope", "demo", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "no demo made" in " ".join(done.stderr.split())
    assert mine.read_bytes() == b"precious"
