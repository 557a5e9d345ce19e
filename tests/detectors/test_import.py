"""Checkpoints and configurations as strangers bring them."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mammoscope.detectors import DetectorSpec, WeightsError
from mammoscope.detectors.checkpoint_reader import read_tensors
from mammoscope.detectors.detectron2.config import read_configuration
from mammoscope.detectors.detectron2.defaults import OCTAVES
from mammoscope.detectors.import_checkpoint import Origin, read_foreign

RETINANET = '_BASE_: "../Base-RetinaNet.yaml"\nMODEL:\n  RETINANET:\n    NUM_CLASSES: 1\n'


def written(folder: Path, text: str, name: str = "config.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_arrays_are_read_from_either_kind_of_file(tmp_path: Path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    zoo = tmp_path / "zoo.pkl"
    zoo.write_bytes(pickle.dumps({"model": OrderedDict(weight=weight), "__author__": "Detectron2 Model Zoo"}))
    old = tmp_path / "old.pkl"
    old.write_bytes(pickle.dumps({"blobs": {"conv1_w": weight}}, protocol=2))
    trained = tmp_path / "trained.pth"
    state = {"model": {"module.weight": torch.from_numpy(weight)}, "trainer": {"best": np.float64(0.5)}, "iteration": 3}
    torch.save(state, trained)

    assert torch.equal(read_tensors(zoo)["weight"], torch.from_numpy(weight))
    assert torch.equal(read_tensors(old)["conv1_w"], torch.from_numpy(weight))
    assert torch.equal(read_tensors(trained)["weight"], torch.from_numpy(weight))


class Evil:
    """Unpickled by a careless program, it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["model.pkl", "model.pth"])
def test_a_checkpoint_that_would_run_a_program_is_not_opened(name: str, tmp_path: Path):
    trap = tmp_path / "sprung"
    checkpoint = tmp_path / name
    if name.endswith("pkl"):
        checkpoint.write_bytes(pickle.dumps({"model": {"weight": Evil(trap)}}))
    else:
        torch.save({"model": {"weight": Evil(trap)}}, checkpoint)

    with pytest.raises(WeightsError, match="is not opened"):
        read_tensors(checkpoint)
    assert not trap.exists()


@pytest.mark.parametrize(
    "made_by",
    [
        (np.ndarray, ((1,), "O", b"12345678")),  # bytes taken for the place of an object
        (np.dtype, ("O", False, True)),
        (np.zeros(0).__reduce__()[0], (Path, (0,), b"b")),
    ],
)
def test_an_array_that_is_none_of_numbers_is_not_opened(made_by, tmp_path: Path):
    class Odd:
        def __reduce__(self):
            return made_by

    (tmp_path / "odd.pkl").write_bytes(pickle.dumps({"model": {"weight": Odd()}}))

    with pytest.raises(WeightsError, match=r"not opened|not a pickle of arrays"):
        read_tensors(tmp_path / "odd.pkl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pkl", b"", "not a pickle of arrays"),
        ("noise.pth", b"\x00\x01noise", "not a PyTorch file"),
        ("words.pkl", pickle.dumps({"model": {"weight": "heavy"}}), "holds no state"),
        ("list.pkl", pickle.dumps([1, 2]), "holds no state"),
        ("codec.pkl", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "not a pickle"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(name: str, content: bytes, said: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(WeightsError, match=said):
        read_tensors(tmp_path / name)


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(WeightsError, match="No such file"):
        read_tensors(tmp_path / "model_final.pth")


def test_the_model_zoos_retinanet(tmp_path: Path):
    configuration = read_configuration(written(tmp_path, RETINANET))
    spec = configuration.spec

    assert (configuration.short_side, configuration.long_side) == (800, 1333)
    assert (spec.architecture, spec.backbone, len(spec.classes)) == ("retinanet", "resnet50", 1)
    assert (spec.score_threshold, spec.nms_iou, spec.max_detections) == (0.05, 0.5, 100)
    assert spec.detectron2.anchor_sizes == tuple(map(tuple, OCTAVES))
    assert spec.detectron2.smooth_l1_beta == 0  # of the base; Detectron2's default is 0.1


def test_what_detectron2_dumps_and_what_its_files_spell_are_one(tmp_path: Path):
    dumped = {
        "VERSION": 2,
        "SOLVER": {"STEPS": [18000], "MAX_ITER": 24000},
        "INPUT": {"MIN_SIZE_TEST": 1024, "FORMAT": "BGR", "CROP": {"ENABLED": False}},
        "TEST": {"DETECTIONS_PER_IMAGE": 20, "AUG": {"ENABLED": False, "FLIP": True}},
        "MODEL": {
            "RESNETS": {"DEPTH": 101, "NORM": "BN", "STRIDE_IN_1X1": False},
            "ROI_HEADS": {"NUM_CLASSES": 2, "SCORE_THRESH_TEST": 0.1},
            "ROI_BOX_HEAD": {"BBOX_REG_WEIGHTS": "(10.0, 10.0, 5.0, 5.0)"},
        },
    }
    text = '_BASE_: "Base-RCNN-FPN.yaml"\n' + yaml.safe_dump(dumped)
    configuration = read_configuration(written(tmp_path, text))
    spec, options = configuration.spec, configuration.spec.detectron2

    assert (configuration.short_side, configuration.long_side) == (1024, 1333)
    assert (spec.architecture, spec.backbone, len(spec.classes)) == ("faster_rcnn", "resnet101", 2)
    assert (spec.score_threshold, spec.max_detections) == (0.1, 20)
    assert (options.stride_in_1x1, options.backbone_norm) == (False, "frozen_batch")
    assert options.region_box_weights == (10, 10, 5, 5)
    assert (options.proposal_candidates, options.proposals) == ((2000, 1000), (1000, 1000))


def test_a_base_beside_the_file_counts_before_the_known_ones(tmp_path: Path):
    written(tmp_path, RETINANET + "    SCORE_THRESH_TEST: 0.3\n", "mine.yaml")
    text = '_BASE_: "mine.yaml"\nMODEL:\n  RESNETS:\n    DEPTH: 101\n'

    spec = read_configuration(written(tmp_path, text)).spec
    assert (spec.backbone, spec.score_threshold, spec.nms_iou) == ("resnet101", 0.3, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "has no settings"),
        ("MODEL: [", "not YAML"),
        ("MODEL: !!python/object/apply:os.system ['true']\n", "not YAML of plain values"),
        ("MODEL: !!python/object/apply:eval ['1+1']\n", "not YAML of plain values"),
        ('_BASE_: "Base-Cascade.yaml"\n', "is based on Base-Cascade.yaml"),
        ("MODEL:\n  META_ARCHITECTURE: PanopticFPN\n", "is of a PanopticFPN"),
        (RETINANET + "  RESNETS:\n    DEPTH: 18\n", "MODEL.RESNETS.DEPTH = 18; only 50 or 101"),
        (RETINANET + "  RESNETS:\n    NUM_GROUPS: 32\n", "NUM_GROUPS = 32"),
        (RETINANET + "  MASK_ON: true\n", "MASK_ON = True"),
        (RETINANET + "  FCOS:\n    NUM_CLASSES: 1\n", "MODEL.FCOS, which Detectron2's"),
        (RETINANET + "    NMS_THRESH_TEST: 7\n", "no such network has"),
        (RETINANET + "  RPN: 3\n", "at MODEL.RPN"),
        ("MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n", "build_resnet_backbone"),
    ],
)
def test_a_configuration_of_another_network_is_refused(text: str, said: str, tmp_path: Path):
    with pytest.raises(WeightsError, match=said):
        read_configuration(written(tmp_path, text))


def test_a_base_that_is_based_on_itself_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="is based on"):
        read_configuration(written(tmp_path, '_BASE_: "config.yaml"\n'))


@pytest.mark.parametrize(
    ("tensors", "arguments", "said"),
    [
        ({"fc.weight": (2, 2)}, {}, "no checkpoint of a detector that can be imported"),
        ({"backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7)}, {}, "give its configuration with --config"),
        ({"backbone.body.conv1.weight": (64, 3, 7, 7)}, {}, "neither torchvision's RetinaNet nor"),
        ({"backbone.body.conv1.weight": (1,)}, {"origin": Origin.ORTHANC_MAMMOGRAPHY}, "not orthanc-mammography's"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tensors, arguments, said: str, tmp_path: Path):
    torch.save({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "model.pth")

    with pytest.raises(WeightsError, match=said):
        read_foreign(tmp_path / "model.pth", **arguments)


def test_weights_of_another_number_of_classes_are_refused(tmp_path: Path):
    shapes = {"backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7), "pixel_mean": (3, 1, 1)}
    torch.save({"model": {name: torch.zeros(shape) for name, shape in shapes.items()}}, tmp_path / "model.pth")

    with pytest.raises(WeightsError, match="contradict each other in pixel_mean"):
        read_foreign(tmp_path / "model.pth", configuration=written(tmp_path, RETINANET))


def test_the_layout_needs_a_resnet_and_weights_that_fit_its_strides():
    common = {"architecture": "retinanet", "layout": "detectron2"}
    with pytest.raises(ValueError, match="ResNets only"):
        DetectorSpec(**common, backbone="tf_efficientnet_lite0")
    with pytest.raises(ValueError, match="stride in the 3x3"):
        DetectorSpec(**common, backbone="resnet50", weights="imagenet")
    with pytest.raises(ValueError, match='works with layout = "detectron2" only'):
        DetectorSpec(architecture="retinanet", backbone="resnet50", detectron2={"prior": 0.02})
    with pytest.raises(ValueError, match="a multiple of 32"):
        DetectorSpec(**common, backbone="resnet50", weights="none", norm="group", fpn_channels=48)
    DetectorSpec(**common, backbone="resnet50", weights="imagenet", detectron2={"stride_in_1x1": False})
