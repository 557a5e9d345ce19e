"""``import mammoscope``: the public names, their examples, what a notebook shows."""

import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

import mammoscope
from mammoscope.evaluation import read_report, report_html
from mammoscope.findings import Box, Finding, Reading, ReadingStatus

LATE = ("numpy", "cv2", "pydicom", "onnxruntime", "typer", "torch")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with ``case.dcm``, a left CC, and ``mine``, a data set of a synthetic study of two masses' views."""
    folder = tmp_path_factory.mktemp("workplace")
    study = mammoscope.screening_study(1, masses=1, rows=640, columns=480)
    files = study.save(folder / "mine/images")
    truth = study.truth_as_coco()
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    for image in truth["images"]:
        image.setdefault("patient_id", "p")
    (folder / "mine/annotations.json").write_text(json.dumps(truth))
    left = next(f for f, i in zip(files, study.images, strict=True) if (i.laterality, i.view) == ("L", "CC"))
    (folder / "case.dcm").write_bytes(left.read_bytes())
    assert set(names.values()) == {file.name for file in files}
    return folder


@pytest.fixture
def data(workplace):
    return mammoscope.load_dataset(workplace / "mine")


def test_importing_it_loads_nothing_and_its_version_is_told_at_once():
    code = f"import sys, mammoscope; print(sorted({set(LATE)!r} & set(sys.modules)), len(dir(mammoscope)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", str(len(mammoscope.__all__))]
    code = (
        "import sys; from mammoscope.__main__ import main; sys.argv = ['mammoscope', '--version']; main(); "
        f"print({set(LATE)!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"mammoscope {mammoscope.__version__}", "set()"]


def test_every_public_name_is_there_is_typed_and_is_documented():
    stub = Path(mammoscope.__file__).with_suffix(".pyi").read_text()
    typed = {name: home for home, name in re.findall(r"from (\S+) import (\w+) as \2\n", stub)}
    assert typed == mammoscope._HOMES
    for name in mammoscope.__all__:
        thing = getattr(mammoscope, name)
        assert name == "__version__" or (thing.__doc__ or "").strip(), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mammoscope.nothing


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mammoscope", "mammoscope.library", "mammoscope.evaluation.library"])
def test_the_examples_run(module, workplace, data, monkeypatch):
    monkeypatch.chdir(workplace)
    loaded = importlib.import_module(module)
    flags = doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(loaded, extraglobs={"data": data}, optionflags=flags)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.slow
def test_the_eight_lines(workplace, data, monkeypatch):
    monkeypatch.chdir(workplace)
    ms = mammoscope
    image = ms.read_mammogram("case.dcm")
    detector = ms.Detector(threads=1)
    reading = detector.read(image)
    assert reading.boxes.shape == (len(reading.scores), 4)
    assert reading.to_dict()["algorithm"]["name"] == "mammoscope-mass"
    assert reading._repr_png_().startswith(b"\x89PNG")
    ms.draw(image, reading).save("case.png")
    assert Path("case.png").stat().st_size > 1000
    result = ms.evaluate(detector, data, resamples=50)
    low, high = result.interval("recall")
    assert 0 <= low <= result.recall <= high <= 1
    assert result.froc().x[0] == 0
    assert result.plot_froc().save("froc.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in result.plot_froc()._repr_svg_()
    assert "AP at IoU 0.5" in result._repr_html_()
    saved = result.save("report")
    assert json.loads((saved / "metrics.json").read_text())["ap50"] == result.ap50
    page = report_html(read_report(saved))
    assert "grey values: breast percentiles 1 to 99.8 as 0 to 1" in page
    frame = result.to_pandas()
    assert frame.loc["ap50", "value"] == result.ap50
    compared = ms.compare([result, result], data)
    assert compared.differences["model 2"]["f1"].value == 0
    assert "<table>" in compared._repr_html_()


def test_predictions_of_every_kind_of_object(data):
    boxes = {image.id: np.array([box.as_tuple() for box in image.boxes]).reshape(-1, 4) for image in data}

    class Detections:  # what supervision's have
        def __init__(self, xyxy):
            self.xyxy, self.confidence, self.class_id = xyxy, np.full(len(xyxy), 0.9), None

    rows = [
        {"file_name": image.name, "x0": b.x0, "y0": b.y0, "x1": b.x1, "y1": b.y1, "score": 0.9}
        for image in data
        for b in image.boxes
    ]
    readings = [
        Reading(image.name, ReadingStatus.FOUND, tuple(Finding(box, 0.9) for box in image.boxes))
        if image.boxes
        else Reading(image.name, ReadingStatus.NOTHING_FOUND)
        for image in data
    ]
    for predictions in (
        rows,
        pandas.DataFrame(rows),
        readings,
        {name: Detections(found) for name, found in boxes.items()},
        {name: [(*box, 0.9) for box in found] for name, found in boxes.items()},
        dict(zip((image.name for image in data), readings, strict=True)),
    ):
        result = mammoscope.evaluate(predictions, data, resamples=0, name="exact")
        assert (result.ap50, result.recall, result.precision) == (1, 1, 1)
    with pytest.raises(mammoscope.EvaluationError, match="not int"):
        mammoscope.evaluate(3, data)
    with pytest.raises(mammoscope.EvaluationError, match="no figure 'ap99'"):
        result.interval("ap99")


def test_a_reading_tells_what_it_holds():
    found = Reading("a.dcm", ReadingStatus.FOUND, (Finding(Box(1, 2, 30, 40), 0.91),), threshold=0.5)
    assert repr(found) == "<Reading of a.dcm: Mass 0.910 at (1, 2, 30, 40) at 0.5 or more>"
    assert repr(Reading.not_processed("b.dcm", "no pixels")) == "<Reading of b.dcm: not processed: no pixels>"
    assert found._repr_png_() is None
    assert found.labels == ("Mass",)
