"""Detectron2's ``config.yaml`` as a detector's spec."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.detectron2 import defaults
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec, Detectron2Options, Layout
from mammoscope.errors import what_is_wrong
from mammoscope.untrusted_yaml import read_yaml

_ARCHITECTURES = {"RetinaNet": Architecture.RETINANET, "GeneralizedRCNN": Architecture.FASTER_RCNN}
_DEEPEST_BASE = 8


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a configuration says that running its network needs.

    Parameters
    ----------
    spec
        With classes named ``class 1``, ``class 2``, ...
    short_side, long_side
        In use: images are resized to that shorter side, but no longer than the second. A short side of 0: not resized.
    """

    spec: DetectorSpec
    short_side: int
    long_side: int


def read_configuration(path: Path) -> Configuration:
    """Read a ``config.yaml``; what it leaves out has Detectron2's defaults.

    Raises
    ------
    WeightsError
        If the file cannot be read, or asks for another network than the four of `defaults.BASES`.
    """
    content = _merged(defaults.DEFAULTS, _with_base(path, _DEEPEST_BASE), path, "")
    _refuse_the_unknown(content, path)
    try:
        spec = _spec(content)
    except (ValidationError, TypeError, ValueError, KeyError, IndexError) as error:
        raise WeightsError(f"the configuration {path} has a value that no such network has: {_why(error)}") from error
    return Configuration(spec, int(content["INPUT"]["MIN_SIZE_TEST"]), int(content["INPUT"]["MAX_SIZE_TEST"]))


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {what_is_wrong(first)}"


def _with_base(path: Path, depth: int) -> dict[str, Any]:
    """A file and what it is based on: a file beside it, or one of the model zoo's that are known."""
    content = _load(path)
    base = content.pop("_BASE_", None)
    if base is None:
        return content
    beside = path.parent / str(base)
    if beside.is_file() and depth:
        return _overlaid(_with_base(beside, depth - 1), content)
    known = defaults.BASES.get(Path(str(base)).name)
    if known is None:
        raise WeightsError(
            f"the configuration {path} is based on {base}, which is not there: put that file beside it, or give the "
            "config.yaml that Detectron2 wrote into the output folder of the training"
        )
    return _overlaid(known, content)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise WeightsError(f"the configuration {path} cannot be read: {error.strerror}; correct the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(
            f"the configuration {path} is not YAML of plain values: give the config.yaml of the training"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"the configuration {path} has no settings: give the config.yaml of the training")
    return content


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Plain values, tuples, and the one expression that Detectron2's own files hold."""


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    values: list[Any] = loader.construct_sequence(node, deep=True)
    return values


def _expression(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> Any:
    (text,) = loader.construct_sequence(node)
    if "".join(str(text).split()) != "".join(defaults.OCTAVES_EXPRESSION.split()):
        raise yaml.YAMLError(f"an expression that is not run: {text}")
    return defaults.OCTAVES


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _expression)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        deeper = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value) if deeper else value
    return merged


def _merged(below: dict[str, Any], above: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Settings over defaults, leaving out those without say in the network and refusing those unheard of."""
    merged = dict(below)
    for key, value in above.items():
        name = f"{where}{key}"
        if name in defaults.WITHOUT_SAY:
            continue
        if key not in below:
            raise WeightsError(
                f"the configuration {path} has the setting {name}, which Detectron2's RetinaNet and Faster R-CNN do "
                "not have: only these two networks, without additions, can be imported"
            )
        if isinstance(below[key], dict):
            if not isinstance(value, dict):
                raise WeightsError(f"the configuration {path} has a value where settings belong, at {name}")
            merged[key] = _merged(below[key], value, path, f"{name}.")
        else:
            merged[key] = _plain(value)
    return merged


def _plain(value: Any) -> Any:
    """Detectron2 reads strings such as "(1, 2)" as what they spell."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value


def _refuse_the_unknown(content: dict[str, Any], path: Path) -> None:
    architecture = content["MODEL"]["META_ARCHITECTURE"]
    if architecture not in _ARCHITECTURES:
        raise WeightsError(
            f"the configuration {path} is of a {architecture}: only RetinaNet and GeneralizedRCNN (Faster R-CNN) can "
            "be imported"
        )
    needed = defaults.NEEDED | defaults.NEEDED_BY[architecture]
    for name, admitted in needed.items():
        value: Any = content
        for key in name.split("."):
            value = value[key]
        if _comparable(value) not in [_comparable(one) for one in admitted]:
            raise WeightsError(
                f"the configuration {path} has {name} = {value}; only {' or '.join(str(one) for one in admitted)} can "
                "be imported"
            )


def _comparable(value: Any) -> Any:
    return [_comparable(one) for one in value] if isinstance(value, list | tuple) else value


def _spec(content: dict[str, Any]) -> DetectorSpec:
    model = content["MODEL"]
    architecture = _ARCHITECTURES[model["META_ARCHITECTURE"]]
    retina, rpn, regions, box = model["RETINANET"], model["RPN"], model["ROI_HEADS"], model["ROI_BOX_HEAD"]
    is_retina = architecture is Architecture.RETINANET
    head = retina if is_retina else regions
    resnets, anchors = model["RESNETS"], model["ANCHOR_GENERATOR"]
    if len(model["PIXEL_MEAN"]) != len(model["PIXEL_STD"]):
        raise ValueError("PIXEL_MEAN and PIXEL_STD are of different lengths")
    giou = is_retina and retina["BBOX_REG_LOSS_TYPE"] == "giou"
    return DetectorSpec(
        architecture=architecture,
        backbone=Backbone(f"resnet{resnets['DEPTH']}"),
        layout=Layout.DETECTRON2,
        weights="none",
        frozen_stages=model["BACKBONE"]["FREEZE_AT"],
        fpn_channels=model["FPN"]["OUT_CHANNELS"],
        norm="group" if is_retina and retina["NORM"] == "GN" else "none",
        box_loss="giou" if giou else "l1",
        classes=tuple(f"class {number + 1}" for number in range(head["NUM_CLASSES"])),
        # A threshold of 0 keeps everything, as does the smallest number above it.
        score_threshold=max(head["SCORE_THRESH_TEST"], 1e-9),
        nms_iou=head["NMS_THRESH_TEST"],
        max_detections=content["TEST"]["DETECTIONS_PER_IMAGE"],
        detectron2=Detectron2Options.model_validate(
            {
                "pixel_mean": model["PIXEL_MEAN"],
                "pixel_std": model["PIXEL_STD"],
                "stride_in_1x1": resnets["STRIDE_IN_1X1"],
                "backbone_norm": "group" if resnets["NORM"] == "GN" else "frozen_batch",
                "pyramid_norm": "group" if model["FPN"]["NORM"] == "GN" else "none",
                "anchor_sizes": _nested(anchors["SIZES"]),
                "anchor_ratios": _nested(anchors["ASPECT_RATIOS"]),
                "anchor_offset": anchors["OFFSET"],
                "head_convolutions": retina["NUM_CONVS"],
                "prior": retina["PRIOR_PROB"],
                "anchor_iou": retina["IOU_THRESHOLDS"],
                "box_weights": retina["BBOX_REG_WEIGHTS"],
                "focal_alpha": retina["FOCAL_LOSS_ALPHA"],
                "focal_gamma": retina["FOCAL_LOSS_GAMMA"],
                "smooth_l1_beta": retina["SMOOTH_L1_LOSS_BETA"],
                "candidates": retina["TOPK_CANDIDATES_TEST"],
                "proposal_iou": rpn["IOU_THRESHOLDS"],
                "proposal_sample": rpn["BATCH_SIZE_PER_IMAGE"],
                "proposal_positive": rpn["POSITIVE_FRACTION"],
                "proposal_box_weights": rpn["BBOX_REG_WEIGHTS"],
                "proposal_smooth_l1_beta": rpn["SMOOTH_L1_BETA"],
                "proposal_candidates": (rpn["PRE_NMS_TOPK_TRAIN"], rpn["PRE_NMS_TOPK_TEST"]),
                "proposals": (rpn["POST_NMS_TOPK_TRAIN"], rpn["POST_NMS_TOPK_TEST"]),
                "proposal_nms_iou": rpn["NMS_THRESH"],
                "proposal_min_size": model["PROPOSAL_GENERATOR"]["MIN_SIZE"],
                "region_iou": regions["IOU_THRESHOLDS"][0],
                "region_sample": regions["BATCH_SIZE_PER_IMAGE"],
                "region_positive": regions["POSITIVE_FRACTION"],
                "region_box_weights": box["BBOX_REG_WEIGHTS"],
                "region_smooth_l1_beta": box["SMOOTH_L1_BETA"],
                "region_pixels": box["POOLER_RESOLUTION"],
                "region_sampling": box["POOLER_SAMPLING_RATIO"],
                "region_layers": max(box["NUM_FC"], 1),
                "region_width": box["FC_DIM"],
                "region_box_per_class": not box["CLS_AGNOSTIC_BBOX_REG"],
                "append_truth": regions["PROPOSAL_APPEND_GT"],
            }
        ),
    )


def _nested(values: Any) -> Any:
    return values if isinstance(values[0], list | tuple) else [values]
