import numpy as np
import pytest

from mammoscope.explain import ExplainError, Occlusion, correlation, drise, similarity_to
from mammoscope.explain.drise import occlusion_maps, overlaps, smooth_tissue
from mammoscope.findings import Box, Finding
from mammoscope.imaging import prepare


@pytest.fixture
def pixels() -> np.ndarray:
    """Tissue with a bright square in rows 32 to 48, columns 16 to 32."""
    tissue = np.random.default_rng(0).uniform(0.4, 0.5, (96, 64)).astype(np.float32)
    tissue[32:48, 16:32] = 1.0
    return tissue


def test_overlaps_by_hand():
    one = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    other = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [5, 5, 5, 9]])

    assert overlaps(one, other) == pytest.approx(np.array([[1, 50 / 150, 0], [0, 0, 0]]))
    assert overlaps(one, np.zeros((0, 4))).shape == (2, 0)


def test_a_value_is_how_much_the_similarity_rises_where_shown(pixels):
    filling = smooth_tissue(pixels)

    def one_pixel(shown):
        return np.array([shown[40, 20], -shown[40, 20], 0.3])

    (rising, _), (falling, _), (constant, _) = occlusion_maps(pixels, one_pixel, Occlusion(masks=40))

    # Shown wholly it is the picture's value, hidden wholly the filling's, and in between in proportion.
    assert rising[40, 20] == pytest.approx(pixels[40, 20] - filling[40, 20], abs=1e-4)
    assert falling == pytest.approx(-rising, abs=1e-6)
    assert constant == pytest.approx(np.zeros((96, 64)), abs=1e-6)


def test_the_map_is_hot_where_the_similarity_comes_from_and_nowhere_else(pixels):
    def brightness_of_the_square(shown):
        return np.array([shown[32:48, 16:32].mean()])

    ((values, agreement),) = occlusion_maps(pixels, brightness_of_the_square, Occlusion(masks=300, cells=8))

    y, x = np.unravel_index(values.argmax(), values.shape)
    assert 32 <= y < 48
    assert 16 <= x < 32
    assert np.abs(values[70:, 40:]).max() < 0.3 * values.max()
    assert agreement > 0.9


def test_agreement_foretells_the_correlation_with_other_masks(pixels):
    rng = np.random.default_rng(0)

    def noisy(shown):
        return np.array([shown[32:48, 16:32].mean() + rng.normal(0, 0.15)])

    pairs = [
        [occlusion_maps(pixels, noisy, Occlusion(masks=100, cells=8, seed=seed))[0] for seed in (2 * n, 2 * n + 1)]
        for n in range(8)
    ]

    foretold = np.mean([agreement for pair in pairs for _, agreement in pair])
    came_true = np.mean([correlation(one, other) for (one, _), (other, _) in pairs])
    assert 0.2 < came_true < 0.9
    assert foretold == pytest.approx(came_true, abs=0.15)


def test_what_is_background_whatever_is_hidden_has_no_value(pixels):
    pixels[:, 50:] = 0

    ((values, _),) = occlusion_maps(pixels, lambda shown: np.array([shown[32:48, 16:32].mean()]), Occlusion(masks=40))

    assert (values[:, 50:] == 0).all()
    assert (values[:, :50] != 0).mean() > 0.99


def test_too_few_masks_are_refused():
    with pytest.raises(ExplainError, match="20 or more"):
        Occlusion(masks=19)


def test_a_finding_is_as_like_itself_as_its_score(detector, mammogram, surest):
    prepared = prepare(mammogram, detector.bundle.metadata.input.preprocessing)
    elsewhere = Finding(Box(0, 0, 5, 5), 0.9)

    similarity = similarity_to(detector.bundle, [surest, elsewhere], prepared.placement)

    # A probability in the finding, the network's own score here.
    raw = detector.bundle.metadata.calibration.score(np.array([surest.score]))[0]
    assert similarity(prepared.pixels) == pytest.approx([raw, 0], abs=1e-3)
    assert similarity(np.zeros_like(prepared.pixels)) == pytest.approx([0, 0], abs=0.01)


def test_the_shipped_model_is_explained_alike_each_time(detector, mammogram, surest):
    seen: list[tuple[int, int]] = []
    occlusion = Occlusion(masks=20, seed=3)

    (one,) = drise(detector.bundle, mammogram, [surest], occlusion, lambda done, total: seen.append((done, total)))
    (other,) = drise(detector.bundle, mammogram, [surest], occlusion)

    geometry = detector.bundle.metadata.input
    assert one.values.shape == (geometry.rows, geometry.columns)
    assert (one.values == other.values).all()
    assert one.values.std() > 0
    assert seen == [(n, 20) for n in range(1, 21)]
    assert one.method == "D-RISE, 20 masks of 10 cells, seed 3"
    assert one.on_file(mammogram.rows, mammogram.columns).shape == (400, 300)


def test_a_label_that_the_bundle_does_not_know(detector, mammogram):
    with pytest.raises(ExplainError, match="knows Mass, not Cyst"):
        drise(detector.bundle, mammogram, [Finding(Box(0, 0, 9, 9), 0.5, "Cyst")])
