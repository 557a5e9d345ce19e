"""Networks in torch that find masses in a prepared mammogram."""

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.build import MassDetector, build_detector, count_parameters, to_channels_last
from mammoscope.detectors.detectron2_options import Detectron2Options
from mammoscope.detectors.fusion import FusedDetector, fuse
from mammoscope.detectors.gradient import gradient_maps
from mammoscope.detectors.shuffle import Part, shuffled
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec, Layout

__all__ = [
    "Architecture",
    "Backbone",
    "DetectorSpec",
    "Detectron2Options",
    "FusedDetector",
    "Layout",
    "MassDetector",
    "Part",
    "WeightsError",
    "build_detector",
    "count_parameters",
    "fuse",
    "gradient_maps",
    "shuffled",
    "to_channels_last",
]
