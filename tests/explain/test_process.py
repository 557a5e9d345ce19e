"""D-RISE in a process of its own."""

import os

import numpy as np
import pytest

from mammoscope.explain import ExplainError, ExplainingProcess, Occlusion, drise
from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, prepare
from mammoscope.inference import BundleError, Detector


def test_a_map_made_apart_is_the_same_made_with_the_least_priority_and_can_be_stopped(
    detector: Detector, mammogram: Mammogram, surest: Finding
):
    few = Occlusion(masks=20)
    told: list[tuple[int, int]] = []
    with ExplainingProcess() as process:
        prepared = prepare(mammogram, process.metadata.input.preprocessing)
        assert os.getpriority(os.PRIO_PROCESS, process.process_id) == 19
        [apart] = process.drise(prepared, [surest], few, lambda done, total: told.append((done, total)))
        [here] = drise(detector.bundle, mammogram, [surest], few)
        assert np.array_equal(apart.values, here.values)
        assert (apart.placement, apart.method) == (here.placement, here.method)
        assert apart.agreement == pytest.approx(here.agreement)
        assert told == sorted(told)
        assert told[0] == (0, 20)

        with pytest.raises(ExplainError, match="knows Mass, not Cyst"):
            process.drise(prepared, [Finding(surest.box, 0.5, "Cyst")], few)

        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            process.drise(prepared, [surest], few, stop)
    with pytest.raises(ValueError, match="closed"):
        process.drise(prepared, [surest], few)


def test_a_bundle_that_is_none_is_told(tmp_path):
    (tmp_path / "none.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"none\.onnx"):
        ExplainingProcess(tmp_path / "none.onnx")
