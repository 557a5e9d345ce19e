"""Networks in torch that find masses in a prepared mammogram."""

from mammoscope.detectors.backbones import WeightsError
from mammoscope.detectors.build import MassDetector, build_detector, count_parameters, to_channels_last
from mammoscope.detectors.spec import Architecture, Backbone, DetectorSpec

__all__ = [
    "Architecture",
    "Backbone",
    "DetectorSpec",
    "MassDetector",
    "WeightsError",
    "build_detector",
    "count_parameters",
    "to_channels_last",
]
