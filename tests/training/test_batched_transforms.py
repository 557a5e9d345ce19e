"""Changes of a batch on a device against those of one picture by OpenCV, draw by draw."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from mammoscope.training.recipe import AugmentationSection
from mammoscope.training.transforms import change_pixels, draw_change, move_boxes

opencv = runpy.run_path(str(Path(__file__).with_name("opencv_augment.py")))
ROWS, COLUMNS = 96, 64
BOXES = np.array([[10.0, 20, 30, 50], [40, 60, 55, 90], [0, 0, 6, 6]])
STEPS = {
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "affine": {"rotation_degrees": 20.0, "zoom": (0.75, 1.4), "aspect": 0.3, "shift": 0.12},
    "tones": {"gamma": 0.35, "curve": 0.4, "contrast": 0.2, "brightness": 0.1},
    "blur": {"blur": 1.5},
    "sharpen": {"sharpen": 2.0},
    "all": {
        "vertical_flip": 0.5,
        "rotation_degrees": 20.0,
        "zoom": (0.75, 1.4),
        "aspect": 0.3,
        "shift": 0.12,
        "gamma": 0.35,
        "curve": 0.4,
        "contrast": 0.2,
        "brightness": 0.1,
        "blur": 1.0,
        "sharpen": 2.0,
    },
}


def pictures(count: int) -> np.ndarray:
    """Tissue-like: broad structure and some grain, black at one side."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    made = []
    for _ in range(count):
        broad = sum(
            np.sin(rng.uniform(0.02, 0.3) * x + rng.uniform(0.02, 0.3) * y + rng.uniform(0, 6)) for _ in range(5)
        )
        made.append(np.clip(0.45 + 0.08 * broad + rng.normal(0, 0.01, (ROWS, COLUMNS)), 0, 1) * (x < 50))
    return np.array(made, dtype=np.float32)


@pytest.mark.parametrize("step", list(STEPS))
def test_a_batch_changes_as_opencv_changed_one_picture_after_the_other(step: str):
    section = AugmentationSection(**{"horizontal_flip": 0.0} | STEPS[step])
    given = pictures(6)
    changes = [draw_change((ROWS, COLUMNS), section, np.random.default_rng(seed)) for seed in range(6)]
    ours = change_pixels(torch.from_numpy(given), changes).numpy()

    for seed, (picture, change, mine) in enumerate(zip(given, changes, ours, strict=True)):
        theirs, boxes, kept = opencv["augment"](picture, BOXES, section, np.random.default_rng(seed))
        moved, still = move_boxes(BOXES, change, (ROWS, COLUMNS))
        assert np.array_equal(moved, boxes)
        assert np.array_equal(still, kept)
        # OpenCV interpolates between 32 steps of a pixel; everything else is exact but for rounding.
        apart = np.abs(mine - theirs)
        if step in ("affine", "all"):
            assert apart.mean() < (0.002 if step == "affine" else 0.006)
            assert np.quantile(apart, 0.99) < (0.015 if step == "affine" else 0.05)
        else:
            assert apart.max() < 1e-4


def test_noise_is_as_strong_as_drawn_and_of_its_own_seed():
    section = AugmentationSection(horizontal_flip=0.0, noise=0.1)
    changes = [draw_change((ROWS, COLUMNS), section, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    changed = change_pixels(torch.full((3, ROWS, COLUMNS), 0.5), changes)

    for picture, change in zip(changed, changes, strict=True):
        assert float(picture.std()) == pytest.approx(change.noise, rel=0.05)
        assert float(picture.mean()) == pytest.approx(0.5, abs=0.005)
    assert torch.equal(changed[0], changed[2])
    assert not torch.allclose(changed[0], changed[1], atol=1e-3)
