"""Networks in torch that find masses in a prepared mammogram."""

from mammoscope.detectors.attribution import Part, gradient_maps, shuffled
from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.ensemble import FusedDetector, fuse
from mammoscope.detectors.extensions import ExtensionError, ExtensionPoint
from mammoscope.detectors.factory import MassDetector, build_detector, count_parameters, to_channels_last
from mammoscope.detectors.losses import Truth
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec, Detectron2Options, Layout

__all__ = [
    "Architecture",
    "Backbone",
    "DetectorSpec",
    "Detectron2Options",
    "ExtensionError",
    "ExtensionPoint",
    "FusedDetector",
    "Layout",
    "MassDetector",
    "Part",
    "Truth",
    "WeightsError",
    "build_detector",
    "count_parameters",
    "fuse",
    "gradient_maps",
    "shuffled",
    "to_channels_last",
]
