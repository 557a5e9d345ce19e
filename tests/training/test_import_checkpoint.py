"""From a checkpoint of Detectron2 to a bundle that finds what Detectron2 finds."""

import importlib.util
import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn_v2

from mammoscope.detectors import DetectorSpec, WeightsError, build_detector
from mammoscope.detectors.detectron2.config import read_configuration
from mammoscope.detectors.import_checkpoint import Origin, read_foreign
from mammoscope.imaging import Mammogram
from mammoscope.inference import Detector
from mammoscope.training import TrainingError
from mammoscope.training.import_checkpoint import ImportOptions, import_checkpoint, input_sides

HERE = Path(__file__).parent.parent / "detectors"


def load_cases() -> ModuleType:
    described = importlib.util.spec_from_file_location("detectron2_cases", HERE / "detectron2_cases.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


cases = load_cases()


def checkpoint_of(model: str, file: Path) -> Path:
    """A checkpoint of the fixture's weights as Detectron2 would write it."""
    architecture = "retinanet" if model.startswith("retinanet") else "faster_rcnn"
    spec = DetectorSpec(
        architecture=architecture,
        backbone="resnet50",
        layout="detectron2",
        weights="none",
        classes=("one", "two"),
        detectron2={"backbone_norm": "frozen_batch"},
    )
    state = build_detector(spec).network.state_dict()
    state.pop("loss_normaliser", None)
    weights = cases.tensors({name: tuple(value.shape) for name, value in state.items()})
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2 Model Zoo"}))
    else:
        torch.save({"model": {name: torch.from_numpy(value) for name, value in weights.items()}}, file)
    return file


def config_for(folder: Path, base: str, section: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(f'_BASE_: "../{base}"\nMODEL:\n  {section}:\n    NUM_CLASSES: {cases.CLASSES}\n')
    return file


@pytest.mark.parametrize(
    ("model", "base", "section", "name"),
    [
        ("retinanet_R_50_FPN_3x", "Base-RetinaNet.yaml", "RETINANET", "model_final.pth"),
        ("faster_rcnn_R_50_FPN_3x", "Base-RCNN-FPN.yaml", "ROI_HEADS", "model_final_280758.pkl"),
    ],
)
def test_the_bundle_finds_what_detectron2_finds(model: str, base: str, section: str, name: str, tmp_path: Path):
    options = ImportOptions(
        configuration=config_for(tmp_path, base, section),
        classes=("Mass", "Calcification"),
        rows=cases.ROWS,
        columns=cases.COLUMNS,
        threshold=0.25,
    )
    detector = import_checkpoint(checkpoint_of(model, tmp_path / name), tmp_path / "new" / "my.onnx", options)

    assert [path.name for path in (tmp_path / "new").iterdir()] == ["my.onnx"]
    metadata = detector.bundle.metadata
    assert (metadata.name, metadata.classes) == (Path(name).stem, ("Mass", "Calcification"))
    assert (detector.threshold, metadata.input.crop) == (0.25, "none")
    expected = json.loads((HERE / "data" / "detectron2.json").read_text())[model]["detections"]
    for number, theirs in enumerate(expected):
        grey = cases.image(number)[None, None].astype(np.float32) / 255
        boxes, scores, labels = detector.bundle.session.run(["boxes", "scores", "labels"], {"image": grey})
        alike = (
            (np.abs(boxes[:, None] - np.asarray(theirs["boxes"])).max(-1) < 0.5)
            & (np.abs(scores[:, None] - np.asarray(theirs["scores"])) < 0.001)
            & (labels[:, None] == np.asarray(theirs["labels"]))
        )
        assert len(scores) == len(theirs["scores"]) > 5
        assert alike.any(0).all()
        assert alike.any(1).all()


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's RetinaNet v2 with two classes and drawn weights, which is orthanc-mammography's network as well."""
    torch.manual_seed(0)
    network = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=2)
    torch.nn.init.normal_(network.head.classification_head.cls_logits.weight, std=0.06)
    file = tmp_path_factory.mktemp("torchvision") / "retina_res50.pth"
    torch.save(network.state_dict(), file)
    return file


def test_orthancs_retinanet_standardises_its_images(two_classes: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match="--layout torchvision or --layout orthanc-mammography"):
        read_foreign(two_classes)
    options = ImportOptions(origin=Origin.ORTHANC_MAMMOGRAPHY, rows=128, columns=96, threshold=0.2)
    detector = import_checkpoint(two_classes, tmp_path / "orthanc.onnx", options)

    assert detector.bundle.metadata.classes == ("Mass",)
    picture = np.random.default_rng(0).random((1, 1, 128, 96), dtype=np.float32)
    network = retinanet_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=2, nms_thresh=0.3, image_mean=[0, 0, 0], image_std=[1, 1, 1]
    )
    network.transform.min_size, network.transform.max_size = (96,), 128
    network.load_state_dict(torch.load(two_classes, weights_only=True))
    colours = torch.from_numpy(picture)[0].expand(3, -1, -1)
    with torch.no_grad():
        expected = network.eval()([(colours - colours.mean()) / colours.std()])[0]
    for image in (picture, 0.5 * picture + 0.1):  # brightness and contrast are taken out
        boxes, scores, labels = detector.bundle.session.run(["boxes", "scores", "labels"], {"image": image})
        assert set(labels.tolist()) == {0}
        theirs = expected["boxes"].numpy()
        alike = (np.abs(boxes[:, None] - theirs).max(-1) < 0.5) & (
            np.abs(scores[:, None] - expected["scores"].numpy()) < 1e-3
        )
        assert len(scores) == len(theirs) > 5
        assert alike.any(0).all()
        assert alike.any(1).all()


def test_a_class_can_be_left_out(two_classes: Path):
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    both = read_foreign(two_classes, origin=Origin.TORCHVISION, classes=("one", "two"))
    second = read_foreign(two_classes, origin=Origin.TORCHVISION, classes=("-", "Mass"))
    with torch.no_grad():
        (found,), (kept,) = both.network(picture), second.network(picture)

    assert set(found["labels"].tolist()) == {0, 1}
    assert torch.equal(kept["scores"], found["scores"][found["labels"] == 1])
    assert set(kept["labels"].tolist()) == {0}
    with pytest.raises(WeightsError, match="has 2 classes, not 1"):
        read_foreign(two_classes, origin=Origin.TORCHVISION)


def test_torchvisions_faster_rcnn_loses_its_background(tmp_path: Path):
    torch.manual_seed(0)
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    network.roi_heads.box_predictor.cls_score.bias.data.copy_(torch.tensor([0.0, 1.0]))
    torch.save(network.state_dict(), tmp_path / "model.pth")
    foreign = read_foreign(tmp_path / "model.pth")
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (found,) = foreign.network(picture)

    assert (foreign.origin, foreign.classes) == (Origin.TORCHVISION, ("Mass",))
    assert len(found["labels"]) > 0
    assert set(found["labels"].tolist()) == {0}


@pytest.mark.parametrize(
    ("short", "long", "aspect", "sides"),
    [
        (800, 1333, 0.8, (992, 800)),  # 1000 x 800
        (800, 1333, 0.5, (1344, 672)),  # 1600 x 800 is too long: 1333 x 666.5
        (800, 1333, 1.25, (800, 992)),
        (None, 2048, 0.6, (2048, 1216)),  # 2048 x 1228.8
        (0, 1333, 0.8, (1344, 1056)),  # not resized at all: the longest side allowed
    ],
)
def test_the_input_is_as_large_as_the_images_were(short, long, aspect: float, sides: tuple[int, int]):
    class Foreign:
        short_side, long_side = short, long

    assert input_sides(Foreign, aspect) == sides


def test_an_operating_point_is_asked_for_first(tmp_path: Path):
    with pytest.raises(TrainingError, match="give --threshold, or --dataset"):
        import_checkpoint(tmp_path / "not there", tmp_path / "out.onnx", ImportOptions())


def test_a_bundle_of_drawn_weights_reads_a_mammogram(two_classes: Path, tmp_path: Path):
    options = ImportOptions(origin=Origin.TORCHVISION, classes=("-", "Mass"), rows=64, columns=64, threshold=0.01)
    import_checkpoint(two_classes, tmp_path / "read.onnx", options)
    pixels = np.random.default_rng(0).integers(0, 65535, (80, 60), dtype=np.uint16)

    reading = Detector(tmp_path / "read.onnx", threads=1).read(Mammogram(pixels, "noise"))
    assert {finding.label for finding in reading.findings} <= {"Mass"}
    assert all(0 <= finding.box.x0 < finding.box.x1 <= 60 for finding in reading.findings)


SMALL = """
_BASE_: Base-RetinaNet.yaml
INPUT: {MIN_SIZE_TEST: 64}
MODEL:
  RESNETS: {NORM: GN}
  FPN: {OUT_CHANNELS: 32}
  ANCHOR_GENERATOR: {SIZES: [[12, 16, 20]], ASPECT_RATIOS: [[1.0]]}
  RETINANET: {NUM_CLASSES: 1, SCORE_THRESH_TEST: 0.0, NMS_THRESH_TEST: 0.7}
TEST: {DETECTIONS_PER_IMAGE: 300}
"""


def small_checkpoint(folder: Path) -> ImportOptions:
    """A small network of random weights in ``model.pth``, whose many candidates hit some masses by chance."""
    (folder / "config.yaml").write_text(SMALL)
    torch.manual_seed(0)
    detector = build_detector(read_configuration(folder / "config.yaml").spec)
    torch.nn.init.normal_(detector.network.head.cls_score.weight, std=0.5)
    torch.save({"model": detector.network.state_dict(), "iteration": 7}, folder / "model.pth")
    return ImportOptions(configuration=folder / "config.yaml")


def test_a_data_set_chooses_the_operating_point_and_gives_figures(tiny_dataset: Path, tmp_path: Path):
    options = replace(small_checkpoint(tmp_path), dataset=tiny_dataset, source="a hospital", licence="its own")
    seen = []
    detector = import_checkpoint(
        tmp_path / "model.pth", tmp_path / "my.onnx", options, lambda done, total: seen.append((done, total))
    )

    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    metadata = detector.bundle.metadata
    assert (metadata.input.rows, metadata.input.columns) == (96, 64)  # 128 x 96 to a short side of 64: 85.3 x 64
    assert metadata.operating_points[0].chosen_on.endswith("split val, 4 images of 2 patients")
    (figures,) = metadata.figures
    assert figures.split == "val"
    assert 0 < figures.values["f1"] <= 1
    assert (metadata.training_data[0].name, metadata.training_data[0].licence) == ("a hospital", "its own")
