"""DCMTK shows a mammogram by its presentation state, as it shows it without one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.settings import ResultKind

pytestmark = pytest.mark.validators
WINDOWED = ("linear window", "sigmoid", "LUT sequence")


def _shown(command: list[str], picture: Path) -> np.ndarray:
    done = subprocess.run([*command, str(picture)], capture_output=True, text=True, check=False)
    assert picture.is_file(), done.stdout + done.stderr
    return cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("name", WINDOWED)
def test_a_presentation_state_leaves_the_greys_as_they_are(name, make_case, tool: Callable[[str], str], tmp_path):
    case, states = make_case(name), tmp_path / "state.dcm"
    [state, *_] = case.of(ResultKind.PRESENTATION_STATE)
    state.dataset.save_as(states, enforce_file_format=True)
    [number] = [n for n, image in enumerate(case.images) if (image.sop_instance_uid,) == state.reference.images]
    program, image = tool("dcmp2pgm"), str(case.files[number])
    alone = _shown([program, image], tmp_path / "alone.pgm")
    by_state = _shown([program, "--pstate", str(states), image], tmp_path / "by-state.pgm")
    assert len(np.unique(alone)) > 100, "a picture with greys to be lost"
    assert np.abs(alone.astype(int) - by_state).max() <= 1  # a table's entries have 16 bits there


@pytest.mark.parametrize("name", WINDOWED)
def test_the_greys_are_those_that_were_read(name, make_case, tool: Callable[[str], str], tmp_path):
    """The window of the state is that of the reading: within two of 255 levels."""
    case, voi = make_case(name), "--use-voi-lut" if name == "LUT sequence" else "--use-window"
    command = [tool("dcmj2pnm"), voi, "1", "--write-8-bit-pnm", str(case.files[0])]
    shown = _shown(command, tmp_path / "picture.pgm").astype(float)
    assert np.abs(shown - case.images[0].mammogram.pixels / 257).max() <= 2
