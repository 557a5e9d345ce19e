"""Gradient maps of an untrained network: what they are maps of is known without knowing what it learned."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mammoscope.detectors import Part, gradient_maps, shuffled  # noqa: E402
from mammoscope.explain import ExplainError, correlation  # noqa: E402
from mammoscope.findings import Box, Finding  # noqa: E402
from mammoscope.imaging import Mammogram, prepare  # noqa: E402
from mammoscope.training.validation import candidates  # noqa: E402


@pytest.fixture(scope="module")
def mammogram() -> Mammogram:
    y, x = np.mgrid[:300, :200] + 0.5
    breast = (x / 140) ** 2 + ((y - 150) / 120) ** 2 < 1
    pixels = breast * 30000 + np.random.default_rng(0).integers(0, 12000, (300, 200))
    return Mammogram(pixels.astype(np.uint16), "m")


@pytest.fixture
def geometry(seeded_model):
    return seeded_model.recipe.input.geometry


@pytest.fixture
def found(seeded_model, geometry, mammogram):
    return candidates(seeded_model.detector, geometry, mammogram)


def test_a_map_is_of_its_detection(seeded_model, geometry, mammogram, found):
    small = [finding for finding in found if finding.box.area < 40 * 40]
    one = small[0]
    far = max(small, key=lambda finding: abs(finding.box.center[1] - one.box.center[1]))

    maps = gradient_maps(seeded_model.detector, geometry, mammogram, [one, far])

    for finding, heat_map in zip((one, far), maps, strict=True):
        assert heat_map.values.shape == (256, 160)
        assert heat_map.values.min() >= 0
        assert heat_map.values.max() == 1
        assert heat_map.agreement is None
        # The head sees some 12 cells of its level: half of the heat lies within that of the finding's middle.
        x, y = heat_map.placement.to_picture(np.array([finding.box.as_tuple()]))[0].reshape(2, 2).mean(axis=0)
        rows, columns = np.mgrid[:256, :160]
        near = np.hypot(rows - y, columns - x) < 64
        assert heat_map.values[near].sum() > 0.5 * heat_map.values.sum()
    assert correlation(maps[0].values, maps[1].values) < 0.5


def test_it_leaves_the_detector_as_it_was(seeded_model, geometry, mammogram, found):
    with torch.no_grad():
        one, again = (gradient_maps(seeded_model.detector, geometry, mammogram, found[:1])[0] for _ in range(2))

    assert (one.values == again.values).all()
    assert all(parameter.grad is None for parameter in seeded_model.detector.parameters())
    assert candidates(seeded_model.detector, geometry, mammogram) == found


def test_shuffled_weights_give_another_map(seeded_model, geometry, mammogram, found):
    before = {name: value.clone() for name, value in seeded_model.detector.state_dict().items()}
    (learned,) = gradient_maps(seeded_model.detector, geometry, mammogram, found[:1])

    (other,) = gradient_maps(shuffled(seeded_model.detector, Part.ALL), geometry, mammogram, found[:1])

    assert other.peak > 0
    assert correlation(learned.values, other.values) < 0.9
    after = seeded_model.detector.state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_what_is_shuffled_grows_from_the_top(seeded_model):
    original = seeded_model.detector.state_dict()
    changed = {
        part: {name for name, value in shuffled(seeded_model.detector, part).state_dict().items()
               if not (value == original[name]).all()}
        for part in Part
    }  # fmt: skip

    assert changed[Part.HEAD] < changed[Part.PYRAMID] < changed[Part.ALL]
    assert not any("backbone" in name for name in changed[Part.HEAD])
    assert all(".fpn." in name for name in changed[Part.PYRAMID] - changed[Part.HEAD])
    everything = shuffled(seeded_model.detector, Part.ALL).state_dict()
    for name in changed[Part.ALL]:
        assert (everything[name].flatten().sort().values == original[name].flatten().sort().values).all()


def test_the_prepared_picture_is_what_the_bundle_sees(seeded_model, geometry, mammogram, found):
    (heat_map,) = gradient_maps(seeded_model.detector, geometry, mammogram, found[:1])

    assert heat_map.placement == prepare(mammogram, geometry).placement


def test_a_finding_that_the_detector_does_not_propose(seeded_model, geometry, mammogram):
    with pytest.raises(ExplainError, match="proposes no Mass where"):
        gradient_maps(seeded_model.detector, geometry, mammogram, [Finding(Box(-50, -50, -40, -40), 0.5)])
