"""The sanity check: a network that has learned nothing must give another map, and a check that asks must notice."""

import cv2
import numpy as np
import pytest

from mammoscope.explain import SAME_MAP, ExplainError, Occlusion, correlation, drise, shuffled_bundle
from mammoscope.imaging import prepare

onnx = pytest.importorskip("onnx")


def weights(path):
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def test_the_values_of_each_tensor_stay_their_places_do_not(detector, tmp_path):
    shuffled = shuffled_bundle(detector.bundle, tmp_path / "all.onnx")

    before, after = weights(detector.bundle.path), weights(shuffled.path)
    convolutions = [name for name, values in before.items() if values.ndim == 4 and values.size > 100]
    assert len(convolutions) > 50
    for name in convolutions:
        assert (np.sort(before[name], axis=None) == np.sort(after[name], axis=None)).all()
        assert not (before[name] == after[name]).all()
    assert shuffled.metadata == detector.bundle.metadata


def test_only_the_part_that_was_asked_for(detector, tmp_path):
    shuffled = shuffled_bundle(detector.bundle, tmp_path / "head.onnx", only="head")

    before, after = weights(detector.bundle.path), weights(shuffled.path)
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert changed
    assert all("head" in name for name in changed)
    with pytest.raises(ExplainError, match="no weights with 'tail'"):
        shuffled_bundle(detector.bundle, tmp_path / "tail.onnx", only="tail")


def test_drise_passes_the_check_and_an_edge_detector_fails_it(detector, mammogram, surest, tmp_path):
    occlusion = Occlusion(masks=60, cells=6)
    bundles = (detector.bundle, shuffled_bundle(detector.bundle, tmp_path / "all.onnx"))

    def edges(bundle):
        pixels = prepare(mammogram, bundle.metadata.input.preprocessing).pixels
        return np.abs(cv2.Laplacian(pixels, cv2.CV_32F))

    by_drise = [drise(bundle, mammogram, [surest], occlusion)[0].values for bundle in bundles]
    by_edges = [edges(bundle) for bundle in bundles]

    assert correlation(*by_drise) < SAME_MAP
    assert correlation(*by_edges) >= SAME_MAP
